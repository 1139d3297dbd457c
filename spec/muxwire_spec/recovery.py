"""The classes of unsuccessful outcomes, and what each permits (chapter 16).

The classes are decided by facts. `soundness` walks the machine RECOVERY, collects the facts on the
way, and compares: table and machine cannot differ.
"""

from __future__ import annotations

from collections.abc import Set

from muxwire_spec.model import OutcomeClass, Retry

FACTS: tuple[tuple[str, str], ...] = (
    ("sent", "its OPEN was handed completely to the transport"),
    ("responded", "at least one RESPONSE frame was received"),
    ("success", "a success terminal has arrived"),
    ("error", "an error terminal without NOT_PROCESSED has arrived"),
    ("rejected", "an error terminal with NOT_PROCESSED has arrived"),
    ("uncovered", "its ordinal is above last_ordinal of a GOAWAY"),
    ("refused", "the worker's complete preface refused the connection"),
    ("killed", "the client has sent KILL for it"),
    ("abandoned", "over HTTP, the client has closed the connection for its caller"),
)

LEARNED: dict[str, tuple[str, ...]] = {
    "OPENED": ("sent",),
    "RESPONSE": ("responded",),
    "SUCCESS": ("responded", "success"),
    "ERROR": ("responded", "error"),
    "ERROR_NOT_PROCESSED": ("responded", "rejected"),
    "NOT_COVERED": ("uncovered",),
    "REFUSED": ("refused",),
    "LOCAL_KILL": ("killed",),
    "OVERDUE": ("killed",),
}
"""The facts that an input of the machine RECOVERY adds, when it is no connection error."""

LEARNED_CALLHOME: dict[str, tuple[str, ...]] = {
    "POSTED": ("sent",),
    "REFUSED": ("rejected",),
    "RESPONSE": ("responded",),
    "SUCCESS": ("responded", "success"),
    "ERROR": ("responded", "error"),
    "ERROR_NOT_PROCESSED": ("responded", "rejected"),
    "LOCAL_KILL": ("killed",),
}
"""The same for the machine WCH_ROUTER_STREAM; an input that is ignored adds nothing."""

LEARNED_HTTP: dict[str, tuple[str, ...]] = {
    "POSTED": ("sent",),
    "REFUSED": ("rejected",),
    "ITEM": ("responded",),
    "DONE": ("responded",),
    "ERROR": ("responded", "error"),
    "MISCOUNT": ("responded",),
    "LOCAL_KILL": ("abandoned",),
}
"""The same for the machine HTTP_STREAM. An event is what a RESPONSE frame is elsewhere."""

GATHERED = {
    "RECOVERY": LEARNED,
    "WCH_ROUTER_STREAM": LEARNED_CALLHOME,
    "HTTP_STREAM": LEARNED_HTTP,
}
"""The machines that give classes, and the facts that their inputs add."""


def _retry(
    doc: str,
    *,
    allowed: bool = True,
    idempotent: bool = False,
    unanswered: bool = False,
    only: tuple[str, ...] = (),
    never: tuple[str, ...] = (),
    elsewhere: tuple[str, ...] = (),
) -> Retry:
    return Retry(
        allowed=allowed,
        idempotent=idempotent,
        unanswered=unanswered,
        only=only,
        never=never,
        elsewhere=elsewhere,
        doc=doc,
    )


CLASSES: tuple[OutcomeClass, ...] = (
    OutcomeClass(
        name="NOT_SENT",
        when=(("!sent",),),
        doc="its OPEN was not handed completely to the transport",
        rank=0,
        retry=_retry("yes, unless the client itself has ended it (SET-003, FAI-001, REC-005)"),
    ),
    OutcomeClass(
        name="FAILED",
        when=(("error",), ("killed", "rejected"), ("killed", "success"), ("abandoned",)),
        doc="an error terminal without NOT_PROCESSED has arrived; or, after a KILL, any terminal "
        "(STM-002); or the client has ended it over HTTP (P1-013)",
        rank=3,
        retry=_retry(
            "only if IDEMPOTENT, no complete message was received, the code is OVERLOADED, "
            "SHUTDOWN or REQUEST_INTERNAL_ERROR, and NON_RETRYABLE is clear",
            idempotent=True,
            unanswered=True,
            only=("OVERLOADED", "SHUTDOWN", "REQUEST_INTERNAL_ERROR"),
        ),
    ),
    OutcomeClass(
        name="PARTIAL",
        when=(("responded", "!success", "!error", "!rejected"),),
        doc="at least one RESPONSE frame was received, but no terminal",
        rank=4,
        retry=_retry(
            "never by the transport; reported with the number of complete messages received",
            allowed=False,
        ),
    ),
    OutcomeClass(
        name="NOT_PROCESSED",
        when=(("rejected",), ("uncovered",), ("refused",)),
        doc="an error terminal with NOT_PROCESSED has arrived; or the ordinal is above "
        "last_ordinal of a GOAWAY; or the worker's complete preface refused the connection "
        "(HSK-004)",
        rank=1,
        retry=_retry(
            "yes, except for INVALID_ARGUMENT, MESSAGE_TOO_LARGE, UNIMPLEMENTED, and for NOT_FOUND "
            "on a worker that already answered so",
            never=("INVALID_ARGUMENT", "MESSAGE_TOO_LARGE", "UNIMPLEMENTED"),
            elsewhere=("NOT_FOUND",),
        ),
    ),
    OutcomeClass(
        name="AMBIGUOUS",
        when=((),),
        doc="the OPEN was sent, and none of the above holds",
        rank=2,
        retry=_retry("only if IDEMPOTENT", idempotent=True),
    ),
)


def classify(facts: Set[str]) -> str:
    """Return the class that the facts about an attempt give: the first that applies."""
    for found in CLASSES:
        if any(all(_holds(fact, facts) for fact in facts_) for facts_ in found.when):
            return found.name
    raise LookupError(f"no class for {sorted(facts)}")


def _holds(fact: str, facts: Set[str]) -> bool:
    return fact[1:] not in facts if fact.startswith("!") else fact in facts
