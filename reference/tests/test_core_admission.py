from __future__ import annotations

import tracemalloc

import pytest
from core_harness import SUBJECT, Wire, opening, request, rid, worker
from muxwire._generated import codec
from muxwire._generated.registries import END_STREAM, META, ErrorCode
from muxwire.core import CloseAction, MessageReceived, RequestReceived, WorkerConnection
from muxwire.core.statistics import Statistics


def verdict(wire: Wire[WorkerConnection], number: int) -> tuple[str, int]:
    body = wire.terminal(rid(number))
    assert body is not None
    return ErrorCode(body.code).name, body.error_flags


@pytest.mark.parametrize(
    "subject", [b"", b"x" * 256, b"a..b", b".a", b"a.", b"a\0", b"a b", "\N{EURO SIGN}".encode()]
)
def test_malformed_subjects(subject: bytes) -> None:
    wire = worker()
    wire.send(opening(1, subject=subject))
    assert verdict(wire, 1) == ("INVALID_ARGUMENT", 1)
    assert not wire.events(RequestReceived)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"Upper", b"")],
        [(b"", b"")],
        [(b"k" * 65, b"")],
        [(b"k", b""), (b"k", b"")],
        [(b"k", b"x" * 8_193)],
        [(b"k", b"\xff")],
        [(b"k", b"a\nb")],
        [(b"k%d" % n, b"") for n in range(65)],
    ],
)
def test_malformed_headers(headers: list[tuple[bytes, bytes]]) -> None:
    wire = worker()
    wire.send(opening(1, headers=headers))
    assert verdict(wire, 1) == ("INVALID_ARGUMENT", 1)


def test_headers_reach_the_handler_unchanged() -> None:
    """PAY-006."""
    wire = worker()
    headers = [(b"z.unknown", "\N{EURO SIGN}".encode()), (b"a", b""), (b"traceparent", b"zz")]
    wire.send(opening(1, headers=headers, timeout_ms=77))
    event = wire.one(RequestReceived)
    assert event.headers == headers
    assert event.timeout_ms == 77


def test_the_limit_of_concurrent_requests() -> None:
    """ADM-002, ADM-004."""
    wire = worker(max_concurrent_requests=100, retry_after_ms=123)
    wire.send(*[opening(n) for n in range(1, 106)])
    assert len(wire.events(RequestReceived)) == 100
    for number in range(101, 106):
        assert verdict(wire, number) == ("OVERLOADED", 1)
        body = wire.terminal(rid(number))
        assert body is not None
        assert body.retry_after_ms == 123


def test_the_limit_of_the_process() -> None:
    shared = Statistics(limit=2)
    first, second = worker(statistics=shared), worker(statistics=shared)
    first.send(opening(1))
    second.send(opening(1), opening(2))
    assert verdict(second, 2) == ("OVERLOADED", 1)
    first.core.receive_eof(0.0)  # its handler outlives it
    second.send(opening(3))
    assert verdict(second, 3) == ("OVERLOADED", 1)
    first.core.fail(rid(1), 0x107)
    second.send(opening(4))
    assert len(second.events(RequestReceived)) == 2


def test_some_subjects_are_not_counted() -> None:
    statistics = Statistics()
    wire = worker(statistics=statistics, uncounted={SUBJECT})
    wire.send(opening(1))
    assert statistics == Statistics()
    wire.core.finish(rid(1))
    assert statistics == Statistics()


def test_the_first_reason_is_the_answer() -> None:
    wire = worker(
        max_concurrent_requests=100,
        max_message_size=1 << 20,
        max_frame_size=1 << 22,
        initial_stream_window=1 << 24,
    )
    large = bytes((1 << 20) + 1)
    wire.send(opening(1, large))
    assert verdict(wire, 1)[0] == "MESSAGE_TOO_LARGE"
    wire.send(*[opening(n) for n in range(100, 200)])
    wire.send(opening(2, large))
    assert verdict(wire, 2)[0] == "OVERLOADED"
    wire.send(opening(3, large, subject=b"no.such"))
    assert verdict(wire, 3)[0] == "NOT_FOUND"
    wire.send(opening(4, large, subject=b"no..such"))
    assert verdict(wire, 4)[0] == "INVALID_ARGUMENT"
    wire.core.drain(1_000, 0.0)
    wire.send(opening(5, large, subject=b"no..such"))
    assert verdict(wire, 5)[0] == "DRAINING"


@pytest.mark.parametrize("subject", [b"no.such", b"no..such"])
def test_refusals_have_a_budget(subject: bytes) -> None:
    wire = worker()
    wire.send(*[opening(n, subject=subject) for n in range(1, 1_001)])
    assert wire.core.close_action is CloseAction.NONE
    wire.send(*[opening(n, subject=subject) for n in range(2_000, 12_000)])
    wire.assert_violation(ErrorCode.ENHANCE_YOUR_CALM, "DOS-001")


def test_overload_is_charged_only_beyond_the_limit_in_a_row() -> None:
    wire = worker(max_concurrent_requests=100)
    wire.send(*[opening(n) for n in range(1, 101)])
    bucket = wire.core._budgets.refusal
    full = bucket._tokens
    wire.send(*[opening(n) for n in range(1_000, 1_100)])
    assert bucket._tokens == full
    wire.send(opening(2_000))
    assert bucket._tokens == full - 1
    wire.core.finish(rid(1))
    wire.pull()
    wire.send(opening(3_000), *[opening(n) for n in range(4_000, 4_100)])
    assert bucket._tokens == full - 1


def test_messages_of_refusals_quote_nothing() -> None:
    wire = worker()
    wire.send(opening(1, subject=b"se cret"), opening(2, subject=b"secret"))
    for number, text in ((1, b"PAY-004"), (2, b"PAY-004")):
        body = wire.terminal(rid(number))
        assert body is not None
        assert body.message == text


def test_what_is_left_of_the_metadata_is_ignored() -> None:
    """PAY-003."""
    block = codec.encode_open(0, 0, SUBJECT, [(b"k", b"v")])
    longer = (len(block) - 4 + 5).to_bytes(4, "big") + block[4:] + b"later"
    wire = worker()
    wire.send(request(1, 0, longer + b"body", META | END_STREAM))
    event = wire.one(RequestReceived)
    assert (event.headers, event.data) == ([(b"k", b"v")], b"body")


def test_what_was_announced_is_accepted() -> None:
    """SET-004: a hundred requests at the same time, and a frame of exactly MAX_FRAME_SIZE."""
    wire = worker(max_concurrent_requests=100, max_frame_size=16_384)
    wire.send(*[opening(n, end=False) for n in range(1, 101)])
    wire.send(request(1, 1, bytes(16_384)))
    assert len(wire.events(RequestReceived)) == 100
    assert len(wire.one(MessageReceived).data) == 16_384
    wire.send(request(1, 2, bytes(16_385)))
    wire.assert_violation(ErrorCode.FRAME_SIZE_ERROR, "FRM-003")


@pytest.mark.parametrize("announced", [b"18446744073709551615", b"-1", b"soon"])
def test_a_content_length_is_a_hint(announced: bytes) -> None:
    """OBS-003: whatever it announces, memory follows what arrives."""
    wire = worker()
    tracemalloc.start()
    wire.send(opening(1, b"ab", end=False, more=True, headers=[(b"content-length", announced)]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000
    wire.send(request(1, 1, b"c", END_STREAM))
    assert wire.one(MessageReceived).data == b"abc"


def test_a_client_that_comes_back_starts_clean() -> None:
    """REC-009."""
    statistics = Statistics()
    first = worker(statistics=statistics)
    first.send(opening(1), opening(2))
    first.core.finish(rid(2))
    first.pull()
    first.core.receive_eof(0.0)
    first.core.fail(rid(1), ErrorCode.CANCELLED)
    assert statistics.active == first.core.open_requests == first.core.buffered_bytes == 0
    second = worker(statistics=statistics)
    second.send(opening(2), opening(1))
    assert [(e.request_id, e.ordinal) for e in second.events(RequestReceived)] == [
        (rid(2), 1),
        (rid(1), 2),
    ]
