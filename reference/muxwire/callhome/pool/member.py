"""A connection in a pool, and the lease of somebody who has borrowed it.

Rules of this file: a lease ends once, by `release` or by `discard`.  What was borrowed is not
touched by the pool until then.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType, TracebackType
from typing import Generic, Protocol, TypeVar

from muxwire.callhome.pool.statistics import Closed
from muxwire.errors import LocalProtocolError

FRAMES_KEPT = 4
"""Frames of the borrower's stack that are kept, to name it if it never gives back."""


class Poolable(Protocol):
    """What a pool asks of a connection."""

    @property
    def usable(self) -> bool:
        """Whether it is open and nothing unexpected has come; costs nothing."""

    async def probe(self) -> bool:
        """Look whether the peer is still there, and tell whether the connection may be lent."""

    def close(self) -> None:
        """Close it; nothing is under way on it."""

    def abort(self) -> None:
        """Close it at once, whatever is under way on it."""


C = TypeVar("C", bound=Poolable)

Stack = tuple[tuple[CodeType, int], ...]


class Member(Generic[C]):
    """One connection of a pool."""

    __slots__ = ("borrowed", "connection", "doomed", "expires", "lent", "since", "stack", "target")

    def __init__(self, connection: C, target: str, expires: float) -> None:
        self.connection = connection
        self.target = target
        self.expires = expires
        self.since = 0.0  # when it was lent, or became idle
        self.lent = False
        self.borrowed = False  # ever
        self.doomed = False  # never goes back
        self.stack: Stack = ()


class Lease(Generic[C]):
    """A borrowed connection; use it as a context manager, or end it yourself.

    Attributes:
        connection: What was borrowed.
        reused: Whether somebody had borrowed it before, so that it may turn out to be stale.
    """

    __slots__ = ("_end", "_member", "connection", "reused")

    def __init__(
        self, member: Member[C], end: Callable[[Member[C], Closed | None], None], reused: bool
    ) -> None:
        self._member: Member[C] | None = member
        self._end = end
        self.connection = member.connection
        self.reused = reused

    @property
    def over(self) -> bool:
        """Whether it was ended."""
        return self._member is None

    def release(self) -> None:
        """Give the connection back, clean: nothing is under way on it.

        Raises:
            LocalProtocolError: the lease is over.
        """
        self._finish(None)

    def discard(self) -> None:
        """Give the connection up: it is broken, or half used, and is closed.

        Raises:
            LocalProtocolError: the lease is over.
        """
        self._finish(Closed.DISCARDED)

    def _finish(self, reason: Closed | None) -> None:
        member, self._member = self._member, None
        if member is None:
            raise LocalProtocolError("this lease is over")
        self._end(member, reason)

    def __enter__(self) -> C:
        return self.connection

    def __exit__(
        self, kind: type[BaseException] | None, _: object, __: TracebackType | None
    ) -> None:
        if not self.over:
            self._finish(None if kind is None else Closed.DISCARDED)


def borrower(depth: int) -> Stack:
    """Return the innermost frames of the caller's stack, `depth` frames up, cheaply."""
    frame = sys._getframe(depth)
    frames = [(frame.f_code, frame.f_lineno)]
    while (outer := frame.f_back) is not None and len(frames) < FRAMES_KEPT:
        frame = outer
        frames.append((frame.f_code, frame.f_lineno))
    return tuple(frames)


def describe(stack: Stack) -> str:
    """Return a borrower's stack as text, the innermost frame last."""
    lines = [f"  {code.co_filename}:{line} in {code.co_qualname}" for code, line in reversed(stack)]
    return "\n".join(lines)
