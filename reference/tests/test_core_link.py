"""A client and a worker against each other: whatever happens, each request has one outcome.

The peers are joined by a link that chops the octets at will and may be cut at any of them.  After
every run the response messages of a request are an exact prefix of what its handler sent, places,
credit and memory are back at their start, and nobody hangs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from core_harness import SUBJECT, Entropy, Link, config, worker
from hypothesis import given
from hypothesis import strategies as st
from muxwire.core import (
    ClientConnection,
    CloseAction,
    HandlerCancelled,
    MessageReceived,
    RequestFinished,
    RequestReceived,
    ResponseFailed,
    ResponseFinished,
    Writable,
)
from muxwire.errors import Outcome, RequestClosed

FLOOR = config(
    max_frame_size=16_384,
    max_concurrent_requests=100,
    initial_stream_window=65_536,
    connection_window=1 << 20,
    idle_timeout_ms=600_000,
)


def test_echo() -> None:
    link = Link()
    ids = [link.client.open(SUBJECT, now=0.0, data=b"%d" % n, awaiting=True) for n in range(300)]
    link.run()
    for event in link.worker_events(RequestReceived):
        link.worker.consumed(event.request_id, event.cost)
        assert event.data is not None
        link.worker.send_message(event.request_id, event.data)
        link.worker.finish(event.request_id)
    link.run()
    answers = link.client_events(MessageReceived)
    assert [event.data for event in answers] == [b"%d" % n for n in range(300)]
    for answer in answers:
        link.client.consumed(answer.request_id, answer.cost)
    assert [event.request_id for event in answers] == ids
    assert link.client.buffered_bytes == link.worker.buffered_bytes == 0


def test_requests_are_pipelined_before_any_answer() -> None:
    client = ClientConnection(FLOOR, 0.0, Entropy())
    client.open(SUBJECT, now=0.0, data=b"early")
    wire = worker(shake=False)
    wire.send(client.data_to_send(0.0))
    assert wire.one(RequestReceived).data == b"early"


def test_an_idle_link_stays_alive_for_ever() -> None:
    short = config(idle_timeout_ms=400)
    link = Link(client=short, worker=short)
    link.advance(60.0)
    assert link.client.close_action is CloseAction.NONE
    assert link.worker.close_action is CloseAction.NONE


def test_the_shortest_idle_timeout_is_no_attack() -> None:
    short = config(idle_timeout_ms=100)
    link = Link(client=short, worker=short)
    link.advance(30.0)
    assert link.client.close_action is CloseAction.NONE


@pytest.mark.parametrize("size", [0, 1, 16_384, 16_385, 1 << 20, 8 << 20])
def test_messages_of_any_size_pass_both_ways(size: int) -> None:
    link = Link(client=FLOOR_LARGE, worker=FLOOR_LARGE)
    data = bytes(size)
    request_id = link.client.open(SUBJECT, now=0.0, data=data, awaiting=True)
    for _ in range(1 + size // 65_000):
        link.run()
        link.worker.awaiting(request_id)
    link.run()
    messages = [e for e in link.at_worker if isinstance(e, RequestReceived | MessageReceived)]
    (got,) = [e for e in messages if e.data is not None]
    assert got.data == data
    link.worker.consumed(request_id, got.cost)
    link.worker.send_message(request_id, data)
    link.worker.finish(request_id)
    link.run()
    assert b"".join(e.data for e in link.client_events(MessageReceived)) == data


FLOOR_LARGE = config(
    max_frame_size=16_384, initial_stream_window=65_536, connection_window=1 << 20,
    max_message_size=64 << 20,
)  # fmt: skip


def conversation(link: Link) -> Iterator[None]:
    """A unary, a streaming and a bidirectional request, step by step."""
    client, worker_ = link.client, link.worker
    unary = client.open(SUBJECT, now=0.0, data=b"u", awaiting=True)
    stream = client.open(SUBJECT, now=0.0, data=b"s")
    both = client.open(SUBJECT, now=0.0, data=None, end=False)
    yield
    worker_.send_message(unary, b"answer")
    worker_.finish(unary)
    worker_.send_headers(stream, [(b"k", b"v")])
    yield
    for number in range(3):
        worker_.send_message(stream, b"item %d" % number)
        client.send_message(both, b"there %d" % number)
        yield
        worker_.send_message(both, b"back %d" % number)
        yield
    client.end(both)
    worker_.finish(stream, [(b"usage", b"3")])
    yield
    worker_.finish(both)
    yield


SENT = [
    [b"answer"],
    [b"item 0", b"item 1", b"item 2"],
    [b"back 0", b"back 1", b"back 2"],
]


def run_with_cut(direction: str, at: int) -> tuple[Link, int]:
    """Run the conversation; deliver only so many octets in one direction, then end the link."""
    left = at
    link = Link()
    moved = 0

    def carry(source: object, data: bytes) -> bytes:
        nonlocal left, moved
        if (source is link.client) != (direction == "up"):
            return data
        moved += len(data)
        data, left = data[:left], left - min(left, len(data))
        return data

    def exchange() -> None:
        busy = True
        while busy:
            busy = False
            for source, target in ((link.client, link.worker), (link.worker, link.client)):
                while data := source.data_to_send(0.0):
                    source.data_sent(len(data), 0.0)
                    if part := carry(source, data):
                        target.receive_data(part, 0.0)
                    busy = True
            link.at_client += link.client.events()
            link.at_worker += link.worker.events()

    steps = conversation(link)
    try:
        for _ in steps:
            exchange()
    except RequestClosed:
        pass  # a request that the worker never saw has no handler
    if left == 0 or at > moved:
        link.client.receive_eof(0.0)
        link.worker.receive_eof(0.0)
        exchange()
    return link, moved


TOTAL = {direction: run_with_cut(direction, 1 << 30)[1] for direction in ("up", "down")}


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_cut_at_every_octet(direction: str) -> None:
    for at in range(TOTAL[direction] + 1):
        link, _ = run_with_cut(direction, at)
        messages: dict[bytes, list[bytes]] = {}
        outcomes: Counter[bytes] = Counter()
        classes: dict[bytes, Outcome] = {}
        order: list[bytes] = []
        for event in link.at_client:
            if isinstance(event, MessageReceived):
                messages.setdefault(event.request_id, []).append(event.data)
                outcomes[event.request_id] += event.ended
            elif isinstance(event, ResponseFinished | ResponseFailed):
                outcomes[event.request_id] += 1
                if isinstance(event, ResponseFailed):
                    classes[event.request_id] = event.outcome
                    assert event.messages == len(messages.get(event.request_id, []))
        order = [e.request_id for e in link.worker_events(RequestReceived)]
        assert set(outcomes.values()) <= {1}
        assert len(outcomes) == 3
        for position, request_id in enumerate(order):
            got = messages.get(request_id, [])
            assert got == SENT[position][: len(got)]
            if request_id not in classes:
                assert got == SENT[position]
            elif got:
                assert classes[request_id] is Outcome.PARTIAL
            else:
                assert classes[request_id] in (Outcome.AMBIGUOUS, Outcome.PARTIAL)


NAMES = (
    *["open"] * 2, *["open stream"] * 2, *["say"] * 3, "end", "stop", "kill", *["answer"] * 6,
    *["finish"] * 2, "fail", *["take"] * 4, "time", *["carry up"] * 2, *["carry down"] * 2,
    *["run"] * 4,
)  # fmt: skip
OPERATIONS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.integers(0, 2**16)), min_size=30, max_size=100
)


class Play:
    """A link driven by a list of operations, with a model of what handlers said."""

    def __init__(self, chunk: int) -> None:
        self.link = Link(
            client=FLOOR,
            worker=FLOOR,
            chop=lambda data: [data[i : i + chunk] for i in range(0, len(data), chunk)],
        )
        self.ids: list[bytes] = []
        self.said: dict[bytes, list[bytes]] = {}
        self.heard: dict[bytes, list[bytes]] = {}
        self.outcomes: Counter[bytes] = Counter()
        self.succeeded: set[bytes] = set()
        self.running: dict[bytes, None] = {}
        self.debts: list[tuple[object, bytes, int]] = []

    def collect(self) -> None:
        link = self.link
        link.at_client += link.client.events()
        link.at_worker += link.worker.events()
        for event in link.at_worker:
            if isinstance(event, RequestReceived):
                self.running[event.request_id] = None
                self.said[event.request_id] = []
            if isinstance(event, RequestReceived | MessageReceived) and event.data is not None:
                self.debts.append((link.worker, event.request_id, event.cost))
            if isinstance(event, HandlerCancelled):
                self.finish(event.request_id, fail=True)
            assert not isinstance(event, Writable) or event.request_id in self.said
        for event in link.at_client:
            if isinstance(event, MessageReceived):
                self.heard.setdefault(event.request_id, []).append(event.data)
                self.debts.append((link.client, event.request_id, event.cost))
                if event.ended:
                    self.succeed(event.request_id)
            elif isinstance(event, ResponseFinished):
                self.succeed(event.request_id)
            elif isinstance(event, ResponseFailed):
                self.outcomes[event.request_id] += 1
                assert event.messages == len(self.heard.get(event.request_id, []))
        link.at_client.clear()
        link.at_worker.clear()

    def succeed(self, request_id: bytes) -> None:
        self.outcomes[request_id] += 1
        self.succeeded.add(request_id)

    def finish(self, request_id: bytes, *, fail: bool = False) -> None:
        if request_id in self.running:
            del self.running[request_id]
            if fail:
                self.link.worker.fail(request_id, 0x107)
            else:
                self.link.worker.finish(request_id)

    def do(self, name: str, number: int) -> None:
        link = self.link
        request_id = self.ids[number % len(self.ids)] if self.ids else None
        handler = list(self.running)[number % len(self.running)] if self.running else None
        match name:
            case "open" | "open stream":
                data = bytes(number) if name == "open" else None
                self.ids.append(
                    link.client.open(
                        SUBJECT,
                        now=link.now,
                        data=data,
                        end=name == "open",
                        timeout_ms=number % 7 * 100,
                        awaiting=True,
                    )
                )
            case "say" | "end" if request_id is not None:
                try:
                    if name == "say":
                        link.client.send_message(request_id, bytes(number))
                    else:
                        link.client.end(request_id)
                except RequestClosed:
                    pass
            case "stop" if request_id is not None:
                link.client.stop(request_id)
            case "kill" if request_id is not None:
                link.client.kill(request_id)
            case "answer" if handler is not None:
                item = bytes([number % 256]) * number
                if link.worker.send_message(handler, item):
                    self.said[handler].append(item)
            case "finish" if handler is not None:
                self.finish(handler)
            case "fail" if handler is not None:
                self.finish(handler, fail=True)
            case "take" if self.debts:
                side, debtor, cost = self.debts.pop(number % len(self.debts))
                side.consumed(debtor, cost)  # type: ignore[attr-defined]
            case "time":
                link.advance(number % 1_000 / 1_000)
            case "carry up":
                link.carry(link.client, link.worker)
            case "carry down":
                link.carry(link.worker, link.client)
            case "run":
                link.run()
        self.collect()

    def take_all(self) -> None:
        while self.debts:
            side, debtor, cost = self.debts.pop()
            side.consumed(debtor, cost)  # type: ignore[attr-defined]

    def settle(self) -> None:
        """Let everything end: handlers finish, readers read, time passes."""
        link = self.link
        for request_id in self.ids:
            link.client.kill(request_id)
        for _ in range(20):
            link.run()
            self.collect()
            for request_id in list(self.running):
                self.finish(request_id)
            self.take_all()
            link.advance(0.2)
            self.collect()


@given(OPERATIONS, st.sampled_from([61, 1_000, 1 << 20]))
def test_every_request_has_exactly_one_outcome(
    operations: list[tuple[str, int]], chunk: int
) -> None:
    play = Play(chunk)
    for name, number in operations:
        play.do(name, number)
    play.settle()
    link = play.link
    assert link.client.close_action is link.worker.close_action is CloseAction.NONE
    assert play.outcomes == Counter(dict.fromkeys(play.ids, 1))
    for request_id, heard in play.heard.items():
        said = play.said[request_id]
        assert heard == said[: len(heard)]
        if request_id in play.succeeded:
            assert heard == said
    assert link.client.open_requests == link.worker.open_requests == 0
    assert link.client.buffered_bytes == link.worker.buffered_bytes == 0
    assert link.worker.statistics.active == 0
    assert len(link.client._timers) == len(link.worker._timers) == 0
    assert not link.client._unread
    for one, other in ((link.client, link.worker), (link.worker, link.client)):
        credit = one._scheduler.credit
        assert credit.limit == other._credit.limit
        assert credit.sent == other._credit.received
        assert credit.limit - credit.sent >= (1 << 20) // 2  # FLW-006


@given(OPERATIONS, st.sampled_from([61, 1 << 20]), st.integers(0, 3))
def test_every_request_has_one_outcome_when_the_connection_ends(
    operations: list[tuple[str, int]], chunk: int, how: int
) -> None:
    play = Play(chunk)
    link = play.link
    for name, number in operations:
        play.do(name, number)
    match how:
        case 0:
            link.worker.drain(300, link.now)
        case 1:
            link.client.goaway()
        case 2:
            link.client.receive_eof(link.now)
            link.worker.receive_eof(link.now)
        case 3:
            link.worker.receive_data(b"\0" * 40, link.now)
    play.collect()
    for _ in range(40):
        link.run()
        play.collect()
        link.advance(0.2)
        play.collect()
        for source, target in ((link.client, link.worker), (link.worker, link.client)):
            if source.close_action >= CloseAction.LINGER and not source.data_to_send(link.now):
                target.receive_eof(link.now)
        play.collect()
        if how == 1:  # everybody goes on until the running requests have ended
            for request_id in list(play.running):
                play.finish(request_id)
            play.take_all()
    assert play.outcomes == Counter(dict.fromkeys(play.ids, 1))
    assert link.client.close_action >= CloseAction.LINGER
    assert link.worker.close_action >= CloseAction.LINGER
    assert not [e for e in link.at_worker if isinstance(e, RequestFinished)]
    for request_id in list(play.running):
        play.finish(request_id)
    assert link.worker.statistics.active == 0
