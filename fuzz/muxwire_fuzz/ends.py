"""The four ends of connections, made for a fuzzer: without a clock and without entropy.

Rules of this file: limits are the least that the specification allows, so that short inputs reach
them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from muxwire._generated.registries import ErrorCode
from muxwire.core import ClientConnection, Config, Connection, Settings, WorkerConnection
from muxwire.core.callhome import CallHome, RouterEnd, RouterStream, WorkerEnd
from muxwire.core.callhome.router_stream import Judge
from muxwire.core.statistics import Statistics
from muxwire_spec.vectors.build import REQUEST_ID
from muxwire_spec.vectors.conversation import rid

START = 100.0
"""The time at which every connection begins."""
SUBJECTS = frozenset((b"echo", b"conformance.echo", b"conformance.source", b"a.b", b"a"))
IDLE_MS = 10_000
"""What every end announces as its idle timeout."""
SMALL = {
    "max_frame_size": 16_384,
    "max_concurrent_requests": 100,
    "initial_stream_window": 65_536,
    "connection_window": 1 << 20,
    "max_metadata_size": 8_192,
    "max_message_size": 1 << 20,
    "idle_timeout_ms": IDLE_MS,
}
ME, TOKEN = REQUEST_ID, bytes.fromhex("00112233445566778899aabbccddeeff")
"""Id and token of the stream that a router expects."""

End = Connection[Any] | CallHome


class Entropy:
    """Octets that are the same in each run; as request ids they are those of the conversations."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, size: int) -> bytes:
        """Return so many octets."""
        first = self._count + 1
        self._count += size // 16
        return _ids(first, max(self._count, first))[:size]


@cache
def _ids(first: int, last: int) -> bytes:
    return b"".join(rid(number) for number in range(first, last + 1))


def config(**changes: Any) -> Config:
    """Return options with small limits."""
    return Config(settings=Settings(**SMALL), **changes)


def worker(statistics: Statistics | None = None, **changes: Any) -> WorkerConnection:
    """Return the worker's end of a connection."""
    return WorkerConnection(
        config(**changes), START, Entropy(), subjects=SUBJECTS, statistics=statistics
    )


def client(**changes: Any) -> ClientConnection:
    """Return the client's end of a connection."""
    return ClientConnection(config(**changes), START, Entropy())


def router(judge: Judge | None = None) -> RouterEnd:
    """Return the router's end of a call-home connection; by itself it knows one stream."""
    known = RouterStream(ME, TOKEN)

    def judge_one(request_id: bytes, token: bytes) -> RouterStream | int:
        if (request_id, token) != (ME, TOKEN):
            return ErrorCode.NOT_FOUND
        return known.verdict_on_hello or known

    return RouterEnd(judge or judge_one, START, IDLE_MS)


def home_worker() -> WorkerEnd:
    """Return the worker's end of a call-home connection."""
    return WorkerEnd(START, IDLE_MS)


def make(number: int) -> End:
    """Return the end that an octet of options asks for, in the order of `ROLES`."""
    return (worker, client, home_worker, router)[number]()
