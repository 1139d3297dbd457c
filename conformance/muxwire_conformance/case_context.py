"""What every case gets, whichever role it judges: checks, and randomness from the seed."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NoReturn, Protocol, TypeVar

from muxwire_conformance.verdict import (
    Check,
    CheckFailed,
    JudgeLate,
    Stopped,
    SuiteError,
    Unprepared,
    Violation,
)
from muxwire_conformance.wire import Frame

if TYPE_CHECKING:
    from muxwire_conformance.case import Case
    from muxwire_conformance.full_profile import Delivery
    from muxwire_conformance.patience import Patience
    from muxwire_conformance.transcript import Transcript
    from muxwire_conformance.transport import Transport

_T = TypeVar("_T")


class Spoken(Protocol):
    """A connection of a case, of any path."""

    frames: list[Frame]
    transcript: Transcript
    transport: Transport

    async def close(self) -> None:
        """Close it, politely."""


class CaseContext:
    """One run of one case (or of its twin).

    Attributes:
        features: What the target declared.
        rng: Random numbers that depend on the seed and the case's id only.
        twin_run: True while the legal form of a negative case runs.
        checks: The checks emitted so far.
        violations: Always-on rules that received frames broke.
        connections: Every connection of the run, in order.
        bug: What went wrong in the judge itself while it read, or wrote what it must not.
        delivery: How faulty octets are written, None for in one piece.
        violating: True once the case has picked a bad value: its own side is judged no more.
    """

    connections: Sequence[Spoken]

    def __init__(
        self,
        *,
        patience: Patience,
        seed: int,
        case: Case | None = None,
        features: Iterable[str] = (),
        twin_run: bool = False,
        name: str = "",
    ) -> None:
        self.patience = patience
        self.case = case
        self.features = frozenset(features)
        self.twin_run = twin_run
        self.rng = random.Random(f"{seed}:{case.id if case else name}:{twin_run}")
        self.checks: list[Check] = []
        self.violations: list[Violation] = []
        self.bug: Exception | None = None
        self.violating = False
        self.delivery: Delivery | None = None

    # -- checks ----------------------------------------------------------------------------

    def emit(self, check: str) -> None:
        """Emit a check that held."""
        self.checks.append(Check(name=check, held=True))

    def check(
        self,
        name: str,
        held: bool,
        *,
        expected: str,
        actual: object,
        frame: Frame | None = None,
        field: str = "",
    ) -> None:
        """Emit a check: it holds, or the case ends here as failed.

        Args:
            name: The check.
            held: Whether it holds.
            expected: What was expected.
            actual: What came.
            frame: The frame that shows it, which the report marks.
            field: The field of that frame, named as in the decoded transcript.

        Raises:
            CheckFailed: it does not hold.
        """
        if not held:
            self._mark(frame, field, expected)
            raise CheckFailed(name, expected, str(actual), frame)
        self.emit(name)

    def warn(
        self,
        name: str,
        expected: str,
        actual: object,
        frame: Frame | None = None,
        *,
        field: str = "",
    ) -> None:
        """Emit a check that holds, but not in the preferred way: the case ends as WARN at best."""
        self._mark(frame, field, expected)
        self.checks.append(
            Check(name=name, held=True, warning=True, expected=expected, actual=str(actual))
        )

    def _mark(self, frame: Frame | None, field: str, expected: str) -> None:
        if frame is not None:
            for connection in self.connections:
                if any(seen is frame for seen in connection.frames):
                    connection.transcript.mark(frame, field=field, remark=f"expected {expected}")

    def pick(self, bad: _T, good: _T) -> _T:
        """Return the bad value, or the good one in the run of the twin."""
        self.require_twin()
        self.violating = self.violating or not self.twin_run
        return good if self.twin_run else bad

    def unprepared(self, expected: str, actual: object = "") -> NoReturn:
        """End the case as INCONCLUSIVE.

        Raises:
            Unprepared: always.
        """
        raise Unprepared(expected, str(actual))

    def late(self, actual: object) -> NoReturn:
        """End the case because the judge itself is late; it is run once more, alone.

        Raises:
            JudgeLate: always.
        """
        raise JudgeLate(str(actual))

    def has(self, feature: str) -> bool:
        """Tell whether the target declared a feature; ``conformance`` means its subjects."""
        return feature in self.features

    async def explain_end(self) -> Stopped | None:
        """Say whether a check failed for a reason that is not the target's."""
        return None

    @property
    def reached(self) -> bool:
        """Tell whether the target has done what its path begins with, however it went on."""
        return False

    @property
    def transcripts(self) -> list[Transcript]:
        """Return what was said, for the report."""
        return [connection.transcript for connection in self.connections]

    async def close(self) -> None:
        """Close every connection, politely."""
        await asyncio.gather(*(connection.close() for connection in self.connections))

    def abandon(self) -> None:
        """Close every connection at once."""
        for connection in self.connections:
            connection.transport.close()

    # -- material --------------------------------------------------------------------------

    def new_id(self) -> bytes:
        """Return a fresh random UUID (version 4) as octets."""
        return uuid.UUID(int=self.rng.getrandbits(128), version=4).bytes

    def nonce(self) -> bytes:
        """Return 8 random octets."""
        return self.rng.randbytes(8)

    def grease_setting(self) -> tuple[int, int]:
        """Return a setting id of the form 0xNANA with any value (FRM-012)."""
        nibble = self.rng.randrange(16)
        return (nibble << 12) | 0x0A00 | (nibble << 4) | 0x0A, self.rng.getrandbits(63)

    # -- guards against wrong cases --------------------------------------------------------

    def require_twin(self) -> None:
        """Refuse negative vocabulary in a case without a twin.

        Raises:
            SuiteError: there is no twin.
        """
        if self.case is not None and self.case.twin is None:
            raise SuiteError(f"{self.case.id} breaks a rule on purpose but names no twin")
