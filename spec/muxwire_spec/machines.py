"""The state machines, as total tables: every state has a row for every input.

A row reads "in this state, on this input: do this, go there". `none` marks what cannot happen;
an implementation that meets it has a fault of its own. Reading order is the order of life.
"""

from __future__ import annotations

from muxwire_spec.model import Breach, Machine, Row, Scope

EFFECTS: tuple[tuple[str, str], ...] = (
    ("ADMIT", "start the handler, or refuse with a terminal"),
    ("DELIVER", "hand the content on"),
    ("DISCARD", "drop the content, return its credit"),
    ("GLITCH", "drop the content, return its credit, charge a glitch"),
    ("RAISE", "raise the send limit; charge a glitch when it does not rise"),
    ("NOTIFY_STOP", "tell the handler to finish early"),
    ("CANCEL", "cancel the handler"),
    ("FINISH", "the request is over"),
    ("FORGET", "drop all state; cancel the handler if it runs"),
    ("IGNORE", "nothing"),
    ("SEND", "write the frame"),
    ("CLASSIFY", "report the request with its recovery class"),
    ("NOT_PROCESSED", "report the request as not processed"),
    ("VIOLATION", "connection error"),
    ("MISUSE", "refuse the local call"),
    ("NONE", "cannot happen"),
)


def _breach(code: str, requirement: str) -> Breach:
    return Breach(code=code, scope=Scope.CONNECTION, requirement=requirement)


_DUPLICATE = _breach("DUPLICATE_REQUEST", "RID-002")
_STATE = _breach("STREAM_STATE_ERROR", "STM-001")
_UNKNOWN = _breach("PROTOCOL_ERROR", "RID-004")


def _machine(
    name: str,
    title: str,
    inputs: tuple[tuple[str, str], ...],
    table: dict[str, tuple[tuple[str, str] | Breach, ...]],
) -> Machine:
    rows = []
    for state, cells in table.items():
        for (input_, _), cell in zip(inputs, cells, strict=True):
            breach = cell if isinstance(cell, Breach) else None
            effect, target = ("VIOLATION", state) if isinstance(cell, Breach) else cell
            rows.append(Row(state=state, input=input_, next=target, effect=effect, breach=breach))
    return Machine(name=name, title=title, states=tuple(table), inputs=inputs, rows=tuple(rows))


WORKER_REQUEST = _machine(
    "WORKER_REQUEST",
    "A request, as the worker sees it",
    (
        ("OPEN", "REQUEST seq 0 without END_STREAM"),
        ("OPEN_END", "REQUEST seq 0 with END_STREAM"),
        ("BODY", "REQUEST seq above 0 without END_STREAM"),
        ("BODY_END", "REQUEST seq above 0 with END_STREAM"),
        ("WINDOW_UPDATE", "WINDOW_UPDATE for the request"),
        ("STOP", "STOP"),
        ("KILL", "KILL"),
        ("TERMINAL", "the terminal is written"),
        ("LOST", "the connection ends"),
    ),
    {
        "IDLE": (
            ("ADMIT", "OPEN"),
            ("ADMIT", "HALF"),
            ("GLITCH", "IDLE"),
            ("GLITCH", "IDLE"),
            ("GLITCH", "IDLE"),
            ("GLITCH", "IDLE"),
            ("GLITCH", "IDLE"),
            ("NONE", "IDLE"),
            ("NONE", "IDLE"),
        ),
        "OPEN": (
            _DUPLICATE,
            _DUPLICATE,
            ("DELIVER", "OPEN"),
            ("DELIVER", "HALF"),
            ("RAISE", "OPEN"),
            ("NOTIFY_STOP", "OPEN"),
            ("CANCEL", "KILLED"),
            ("FINISH", "CLOSED"),
            ("FORGET", "CLOSED"),
        ),
        "HALF": (
            _DUPLICATE,
            _DUPLICATE,
            _STATE,
            _STATE,
            ("RAISE", "HALF"),
            ("NOTIFY_STOP", "HALF"),
            ("CANCEL", "KILLED"),
            ("FINISH", "CLOSED"),
            ("FORGET", "CLOSED"),
        ),
        "KILLED": (
            _DUPLICATE,
            _DUPLICATE,
            _STATE,
            _STATE,
            ("IGNORE", "KILLED"),
            ("IGNORE", "KILLED"),
            ("IGNORE", "KILLED"),
            ("FINISH", "CLOSED"),
            ("FORGET", "CLOSED"),
        ),
        "CLOSED": (
            _DUPLICATE,
            _DUPLICATE,
            ("DISCARD", "CLOSED"),
            ("DISCARD", "CLOSED"),
            ("IGNORE", "CLOSED"),
            ("IGNORE", "CLOSED"),
            ("IGNORE", "CLOSED"),
            ("NONE", "CLOSED"),
            ("FORGET", "CLOSED"),
        ),
    },
)

CLIENT_REQUEST = _machine(
    "CLIENT_REQUEST",
    "A request, as the client sees it",
    (
        ("RESPONSE", "RESPONSE without END_STREAM"),
        ("RESPONSE_END", "RESPONSE with END_STREAM"),
        ("CLIENT_WINDOW_UPDATE", "WINDOW_UPDATE for the request"),
        ("SEND_OPEN", "local: open, more to follow"),
        ("SEND_OPEN_END", "local: open and end"),
        ("SEND_BODY", "local: send"),
        ("SEND_END", "local: send and end"),
        ("SEND_STOP", "local: stop"),
        ("SEND_KILL", "local: kill"),
        ("NOT_COVERED", "GOAWAY with last_ordinal below the request's ordinal"),
        ("CLIENT_LOST", "the connection ends"),
    ),
    {
        "IDLE": (
            _UNKNOWN,
            _UNKNOWN,
            ("IGNORE", "IDLE"),
            ("SEND", "OPEN"),
            ("SEND", "HALF"),
            ("MISUSE", "IDLE"),
            ("MISUSE", "IDLE"),
            ("MISUSE", "IDLE"),
            ("FORGET", "CLOSED"),
            ("CLASSIFY", "CLOSED"),
            ("CLASSIFY", "CLOSED"),
        ),
        "OPEN": (
            ("DELIVER", "OPEN"),
            ("FINISH", "CLOSED"),
            ("RAISE", "OPEN"),
            ("MISUSE", "OPEN"),
            ("MISUSE", "OPEN"),
            ("SEND", "OPEN"),
            ("SEND", "HALF"),
            ("SEND", "OPEN"),
            ("SEND", "KILLING"),
            ("NOT_PROCESSED", "CLOSED"),
            ("CLASSIFY", "CLOSED"),
        ),
        "HALF": (
            ("DELIVER", "HALF"),
            ("FINISH", "CLOSED"),
            ("IGNORE", "HALF"),
            ("MISUSE", "HALF"),
            ("MISUSE", "HALF"),
            ("MISUSE", "HALF"),
            ("MISUSE", "HALF"),
            ("SEND", "HALF"),
            ("SEND", "KILLING"),
            ("NOT_PROCESSED", "CLOSED"),
            ("CLASSIFY", "CLOSED"),
        ),
        "KILLING": (
            ("DISCARD", "KILLING"),
            ("FINISH", "CLOSED"),
            ("IGNORE", "KILLING"),
            ("MISUSE", "KILLING"),
            ("MISUSE", "KILLING"),
            ("MISUSE", "KILLING"),
            ("MISUSE", "KILLING"),
            ("IGNORE", "KILLING"),
            ("IGNORE", "KILLING"),
            ("NOT_PROCESSED", "CLOSED"),
            ("CLASSIFY", "CLOSED"),
        ),
        "CLOSED": (
            _UNKNOWN,
            _UNKNOWN,
            ("IGNORE", "CLOSED"),
            ("MISUSE", "CLOSED"),
            ("MISUSE", "CLOSED"),
            ("MISUSE", "CLOSED"),
            ("MISUSE", "CLOSED"),
            ("IGNORE", "CLOSED"),
            ("IGNORE", "CLOSED"),
            ("IGNORE", "CLOSED"),
            ("IGNORE", "CLOSED"),
        ),
    },
)

MACHINES = (WORKER_REQUEST, CLIENT_REQUEST)
