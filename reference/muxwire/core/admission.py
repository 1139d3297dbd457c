"""Whether an OPEN is accepted, and if not, why.

Rules of this file: the reasons are tried in the order of the specification (DRAINING,
INVALID_ARGUMENT, NOT_FOUND, OVERLOADED, MESSAGE_TOO_LARGE) and the first that holds is the answer.
A refusal says NOT_PROCESSED, always, because no handler has seen the request (ADM-003).
"""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from muxwire._generated.codec import Open, decode_open, encode_error_body
from muxwire._generated.registries import NOT_PROCESSED, ErrorCode
from muxwire.core.budgets import Bucket
from muxwire.core.config import Config
from muxwire.core.statistics import Statistics
from muxwire.errors import ProtocolViolation


class Refusal(NamedTuple):
    """Why an OPEN is refused."""

    code: ErrorCode
    requirement: str
    retry_after_ms: int = 0
    subject: bytes = b""  # if it is one that is served

    def body(self) -> bytes:
        """Return the error body; its message names the rule and quotes nothing (OBS-006)."""
        message = self.requirement.encode()
        return encode_error_body(self.code, NOT_PROCESSED, self.retry_after_ms, message)


class Admission:
    """The gate of one connection."""

    __slots__ = ("_budget", "_config", "_overloaded", "_statistics", "_subjects")

    def __init__(
        self,
        config: Config,
        subjects: Container[bytes],
        statistics: Statistics,
        budget: Bucket,
    ) -> None:
        self._config = config
        self._subjects = subjects
        self._statistics = statistics
        self._budget = budget
        self._overloaded = 0

    def judge(self, payload: bytes, taken: int, now: float, *, draining: bool) -> Open | Refusal:
        """Return the decoded OPEN if it is accepted, else the reason.

        Args:
            payload: Payload of the OPEN.
            taken: Places of the connection that are taken.
            now: The time, for the budget of refusals.
            draining: No new requests are taken.

        Raises:
            ProtocolViolation: PAY-002, or DOS-001 if there were too many refusals.
        """
        settings = self._config.settings
        try:
            opened = decode_open(payload, settings.max_metadata_size)
        except ProtocolViolation as violation:
            if violation.scope == "connection":
                raise
            if draining:
                return Refusal(ErrorCode.DRAINING, "CLS-004")
            self._budget.charge(now)
            return Refusal(ErrorCode.INVALID_ARGUMENT, violation.requirement)
        if draining:
            return Refusal(ErrorCode.DRAINING, "CLS-004")
        if opened.subject not in self._subjects:
            self._budget.charge(now)
            return Refusal(ErrorCode.NOT_FOUND, "PAY-004")
        if taken >= settings.max_concurrent_requests or self._statistics.full:
            self._overloaded += 1
            if self._overloaded > settings.max_concurrent_requests:
                self._budget.charge(now)
            # ADM-002, ADM-004, CAN-004
            retry_after_ms = self._config.retry_after_ms
            return Refusal(ErrorCode.OVERLOADED, "ADM-002", retry_after_ms, opened.subject)
        if len(opened.body) > settings.max_message_size:
            return Refusal(ErrorCode.MESSAGE_TOO_LARGE, "MSG-003", subject=opened.subject)
        self._overloaded = 0
        return opened
