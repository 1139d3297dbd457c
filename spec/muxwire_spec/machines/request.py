"""The life of a request, as each side sees it (chapter 7).

Here the cells stand by state, since that is the order of life: one column of the printed matrix
after the other.
"""

from __future__ import annotations

from muxwire_spec.machines.build import Cell, breach, machine
from muxwire_spec.model import Breach, Machine

_DUPLICATE = breach("DUPLICATE_REQUEST", "RID-002")
_STATE = breach("STREAM_STATE_ERROR", "STM-001")
_UNKNOWN = breach("PROTOCOL_ERROR", "RID-004")


Column = tuple[tuple[str, str] | Breach, ...]


def _machine(
    name: str,
    title: str,
    inputs: tuple[tuple[str, str], ...],
    cites: dict[str, str],
    table: dict[str, Column],
) -> Machine:
    """Return a machine from its columns; `cites` has the rule that demands an effect."""

    def cell(state: str, index: int) -> Cell:
        found = table[state][index]
        return found if isinstance(found, Breach) else (*found, cites.get(found[0], ""))

    return machine(
        name,
        title,
        tuple(table),
        (
            (input_, doc, [cell(state, index) for state in table])
            for index, (input_, doc) in enumerate(inputs)
        ),
        prefix="",
    )


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
        "GLITCH": "RID-003",
        "DISCARD": "FLW-008",
        "RAISE": "FLW-003",
        "NOTIFY_STOP": "CAN-005",
        "CANCEL": "CAN-003",
        "FINISH": "TYP-006",
        "FORGET": "CLS-010",
    },
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
        "DISCARD": "FLW-008",
        "RAISE": "FLW-003",
        "FORGET": "FAI-001",
        "CLASSIFY": "REC-001",
        "NOT_PROCESSED": "REC-002",
    },
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
