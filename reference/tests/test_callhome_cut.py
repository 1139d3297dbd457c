"""A recorded exchange is cut at every octet, in both directions (P0-006, P0-019).

Whatever is cut off, a router never takes it for a success, and neither end waits for ever.  What
must come of it is worked out from the frames that arrived whole.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from callhome_core import ME, START, TOKEN, Bench, pass_time, pull, worker_stream
from muxwire._generated import codec
from muxwire._generated.registries import END_STREAM
from muxwire.core.callhome import RouterEnd, RouterStream, WorkerEnd
from muxwire.core.closing import CloseAction
from muxwire.core.events import (
    HandlerCancelled,
    MessageReceived,
    ResponseFailed,
    ResponseFinished,
)
from muxwire.errors import Outcome

MESSAGES = [b"", b"first", bytes(70_000), b"last"]


def record() -> tuple[bytes, bytes]:
    """Return what a worker and a router say to each other over one response."""
    bench = Bench()
    bench.post()
    bench.hello()
    bench.there.send_headers([(b"key", b"value")])
    for message in MESSAGES:
        assert bench.there.send_message(message)
        bench.run()
    bench.there.finish([(b"usage", b"4")])
    bench.run()
    assert bench.there.over
    assert bench.here.over
    return bench.sent[True], bench.sent[False]


def offsets(octets: bytes) -> Iterator[int]:
    """Yield every offset, but only a few inside the large message."""
    large = octets.find(bytes(1_000))
    for offset in range(len(octets) + 1):
        if large < 0 or not large + 40 < offset < large + 65_000 or offset % 7_001 == 0:
            yield offset


def ends(octets: bytes) -> list[tuple[int, bool]]:
    """Return the offset at which each RESPONSE is whole, and whether it is the terminal."""
    found = []
    at = codec.PREFACE_SIZE
    while at < len(octets):
        size = int.from_bytes(octets[at + 8 : at + 16])
        at += codec.HEADER_SIZE + size
        kind, flags = octets[at - size - 31], octets[at - size - 30]
        if kind == 2:
            found.append((at, bool(flags & END_STREAM)))
    return found


def kinds_of_end() -> list[str]:
    return ["eof", "silence", "reset"]


@pytest.mark.parametrize("end", kinds_of_end())
def test_a_router_whose_worker_is_cut_off(end: str) -> None:
    octets, _ = record()
    whole = ends(octets)
    for offset in offsets(octets):
        stream = RouterStream(ME, TOKEN)
        stream.posted()
        stream.admitted(START)
        core = RouterEnd(lambda *_, stream=stream: stream.verdict_on_hello or stream, START)
        core.receive_data(octets[:offset], START)
        pull(core, START)
        seen = core.events()
        if end == "eof":
            core.receive_eof(START)
        elif end == "reset":
            core.abort(START)
        pass_time(core, START, START + 200)
        assert core.close_action in (CloseAction.CLOSE, CloseAction.ABORT)
        now = START + 200
        stream.handle_timeout(now)
        seen += core.events() + stream.events()
        failed = [event for event in seen if isinstance(event, ResponseFailed)]
        finished = [event for event in seen if isinstance(event, ResponseFinished)]
        messages = [event.data for event in seen if isinstance(event, MessageReceived)]
        assert len(failed) + len(finished) == 1, offset
        assert stream.over
        responses = [last for at, last in whole if at <= offset]
        if responses and responses[-1]:
            assert finished, offset
            assert messages == MESSAGES
        else:
            outcome = Outcome.PARTIAL if responses else Outcome.AMBIGUOUS
            assert failed[0].outcome is outcome, offset
            assert messages == MESSAGES[: len(messages)]
            assert failed[0].messages == len(messages)


@pytest.mark.parametrize("end", kinds_of_end())
def test_a_worker_whose_router_is_cut_off(end: str) -> None:
    _, octets = record()
    accepted = codec.PREFACE_SIZE + codec.HEADER_SIZE
    for offset in range(len(octets) + 1):
        core = WorkerEnd(START)
        stream = worker_stream()
        pull(core, START)
        core.receive_data(octets[: codec.PREFACE_SIZE][:offset], START)
        if core.idle:
            stream.attempt(START)
            core.hello(stream, START)
            stream.send_message(b"a part")
            pull(core, START)
            core.receive_data(octets[codec.PREFACE_SIZE : accepted][: max(0, offset - 16)], START)
            written = pull(core, START)
            assert (b"a part" in written) == (offset >= accepted), offset  # P0-003
            core.receive_data(octets[accepted:offset], START)
        if end == "eof":
            core.receive_eof(START)
        elif end == "reset":
            core.abort(START)
        pass_time(core, START, START + 200)
        assert core.close_action in (CloseAction.CLOSE, CloseAction.ABORT)
        if not stream.gone and not stream.queued:
            assert offset < accepted
            assert stream.failed(START)  # P0-005: another connection is tried
            assert stream.queued
        elif stream.gone:
            assert offset >= accepted
            told = core.events() + stream.events()
            assert [type(event) for event in told if isinstance(event, HandlerCancelled)]
