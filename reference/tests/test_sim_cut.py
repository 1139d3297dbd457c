"""The connection is cut at every octet, in both directions, in three ways.

Exchanges of every form are recorded between two cores.  Then one core meets the recorded octets of
its peer up to each position, followed by an end of file, by a reset or by silence.  What it must
make of them is worked out from the frames by the tables of chapters 8 and 16, without the decoder.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from core_harness import Entropy, config
from muxwire._generated import codec
from muxwire._generated.registries import (
    END_STREAM,
    ERROR,
    META,
    MORE,
    NOT_PROCESSED,
    ErrorCode,
)
from muxwire.core import ClientConnection, CloseAction, Connection, WorkerConnection
from muxwire.core.statistics import Statistics
from sim_link import SUBJECT, Caller, Job, Server, SimLink
from sim_watch import CLIENT, WORKER, Watch

CONFIG = config(idle_timeout_ms=1_000, kill_deadline=0.2)
ENDS = ("eof", "reset", "silence")
HEAD = struct.Struct(">BBBBIQ16s")
PREFACE = codec.PREFACE_SIZE
EARLY = bytes((1 << 20) + 1)
"""A message that has to wait for the worker's SETTINGS."""


# -- the exchanges ---------------------------------------------------------------------------------


class Spec(NamedTuple):
    """What a caller asks: plan of the handler, messages of the request."""

    plan: bytes
    messages: tuple[bytes, ...] = (b"question",)
    streamed: bool = False


@dataclass(frozen=True)
class Exchange:
    specs: tuple[Spec, ...]
    split: int = 1 << 20
    """Largest payload of a frame without metadata; the record is split further where needed."""
    prepare: Callable[[SimLink], None] = field(default=lambda _: None)


class Scripted(Server):
    """A worker's application whose handlers play a script when their request has ended."""

    def _over(self, job: Job) -> None:
        super()._over(job)
        match job.plan:
            case b"unary":
                self.say(job, b"answer")
                self.finish(job)
            case b"items":
                for number in range(3):
                    self.say(job, b"item %d" % number)
                self.finish(job)
            case b"full":
                self.head(job, [(b"k", b"v")])
                self.say(job, b"")
                self.say(job, b"second")
                self.finish(job, [(b"usage", b"2")])
            case b"headers only":
                self.head(job, [(b"k", b"v")])
            case b"nothing":
                self.finish(job)
            case b"fails":
                self.say(job, b"one")
                self.fail(job, ErrorCode.APPLICATION_ERROR)
            case b"large":
                self.say(job, bytes(range(200)))
                self.say(job, bytes(200))
                self.finish(job)


def drain_before_the_last(link: SimLink) -> None:
    link.run()
    link.stall(CLIENT, 1.0)
    start(link.caller, Spec(b"unary"))
    link.worker.drain(5_000, link.now)


def break_a_rule(link: SimLink) -> None:
    """Let the worker find a fault of its peer."""
    link.run()
    link.worker.receive_data(codec.encode_settings([]), link.now)


EXCHANGES = {
    "unary": Exchange((Spec(b"unary"),)),
    "server streaming": Exchange((Spec(b"items"),)),
    "client streaming": Exchange((Spec(b"unary", (b"one", b"", b"three"), streamed=True),)),
    "bidirectional": Exchange((Spec(b"echo", (b"one", b"two", b"three"), streamed=True),)),
    "large, in pieces": Exchange((Spec(b"large", (bytes(range(150)), b"x" * 99)),), split=64),
    "headers and trailers": Exchange((Spec(b"full", ()),)),
    "no message": Exchange((Spec(b"nothing"),)),
    "an error": Exchange((Spec(b"fails"),)),
    "a refusal": Exchange((Spec(b"unknown"),)),
    "no end": Exchange((Spec(b"headers only"), Spec(b"manual"))),
    "three at once": Exchange((Spec(b"items"), Spec(b"unary"), Spec(b"echo", (b"a", b"b")))),
    "a drain": Exchange((Spec(b"manual"),), prepare=drain_before_the_last),
    "a fault": Exchange((Spec(b"headers only"), Spec(b"manual")), prepare=break_a_rule),
}


def start(caller: Caller, spec: Spec) -> bytes:
    """Make all the calls of a request at once."""
    first, rest = spec.messages[:1], spec.messages[1:]
    if spec.plan == b"unknown":
        first, subject = (b"question",), b"sim.none"
    else:
        subject = SUBJECT
    ask = caller.ask(
        0.0,
        subject=subject,
        data=first[0] if first and not spec.streamed else None,
        end=not (rest or spec.streamed),
        plan=spec.plan,
    )
    for message in spec.messages if spec.streamed else rest:
        caller.say(ask, message)
    caller.end(ask)
    return ask.request_id


# -- records ---------------------------------------------------------------------------------------


class Record(NamedTuple):
    up: bytes
    down: bytes
    ids: tuple[bytes, ...]
    specs: tuple[Spec, ...]


class Tape(Watch):
    """A watch that keeps the octets."""

    def __init__(self) -> None:
        super().__init__()
        self.octets = [b"", b""]

    def handed(self, side: int, data: bytes, now: float) -> None:
        super().handed(side, data, now)
        self.octets[side] += data


def record(exchange: Exchange) -> Record:
    tape = Tape()
    link = SimLink(client=CONFIG, worker=CONFIG, watch=tape, server=Scripted)
    for spec in exchange.specs:
        start(link.caller, spec)
    exchange.prepare(link)
    link.run(0.1)
    if link.up.stalled_until:
        link.run(1.0)
    ids = tuple(link.caller.asks)
    specs = exchange.specs + (Spec(b"unary"),) * (len(ids) - len(exchange.specs))
    up, down = (split(octets, exchange.split) for octets in tape.octets)
    return Record(up, down, ids, specs)


class Frame(NamedTuple):
    start: int
    end: int
    type: int
    flags: int
    subtype: int
    request_id: bytes
    payload: bytes


def frames(octets: bytes) -> Iterator[Frame]:
    at = PREFACE
    while at < len(octets):
        _, type_, flags, subtype, _, length, request_id = HEAD.unpack_from(octets, at)
        end = at + HEAD.size + length
        yield Frame(at, end, type_, flags, subtype, request_id, octets[at + HEAD.size : end])
        at = end


def split(octets: bytes, most: int) -> bytes:
    """Cut the frames of messages into smaller ones, as any sender may (MSG-001)."""
    parts = [octets[:PREFACE]]
    seqs: dict[bytes, int] = {}
    for frame in frames(octets):
        if frame.type > 2:
            parts.append(octets[frame.start : frame.end])
            continue
        whole = len(frame.payload) <= most or frame.flags & (META | ERROR)
        step = len(frame.payload) + 1 if whole else most
        pieces = [frame.payload[i : i + step] for i in range(0, len(frame.payload), step)] or [b""]
        for number, piece in enumerate(pieces):
            flags = frame.flags if number == len(pieces) - 1 else MORE
            seq = seqs.get(frame.request_id, 0)
            seqs[frame.request_id] = seq + 1
            parts.append(
                HEAD.pack(0xF7, frame.type, flags, 0, seq, len(piece), frame.request_id) + piece
            )
    return b"".join(parts)


RECORDS = {name: record(exchange) for name, exchange in EXCHANGES.items()}


# -- what must come of it --------------------------------------------------------------------------


class Told(NamedTuple):
    """What a stream direction says up to the cut."""

    frames: int
    messages: list[bytes]
    ended: bool
    error: tuple[int, int] | None


def told(octets: bytes, cut: int, request_id: bytes, *, request: bool) -> Told:
    """Read a stream direction by the table of section 8.2."""
    count, messages, ended, error = 0, [], False, None
    open_: bytes | None = None
    for frame in frames(octets):
        if frame.end > cut or frame.type != (1 if request else 2):
            continue
        if frame.request_id != request_id:
            continue
        data, flags = frame.payload, frame.flags
        count += 1
        ended = bool(flags & END_STREAM)
        if flags & ERROR:
            error = struct.unpack_from(">IH", data)
            continue
        if flags & META:
            data = data[4 + int.from_bytes(data[:4]) :]
        if open_ is not None or flags & MORE:
            open_ = (open_ or b"") + data
            if not flags & MORE:
                messages.append(open_)
                open_ = None
        elif data or _carries_an_empty_message(flags, opens=request and count == 1):
            messages.append(data)
    return Told(count, messages, ended, error)


def _carries_an_empty_message(flags: int, *, opens: bool) -> bool:
    if opens:
        return bool(flags & END_STREAM)
    return not flags & (END_STREAM | META)


def goaways(octets: bytes, cut: int) -> list[tuple[int, int]]:
    found = [f for f in frames(octets) if (f.type, f.subtype) == (3, 6) and f.end <= cut]
    return [struct.unpack_from(">IQ", frame.payload) for frame in found]


def expectation(record_: Record, cut: int, number: int) -> tuple[str, list[bytes]]:
    """Read the table of section 16.1, row by row; give the messages as well."""
    response = told(record_.down, cut, record_.ids[number], request=False)
    if response.ended and response.error is None:
        return "SUCCESS", response.messages
    if response.error is not None and not response.error[1] & NOT_PROCESSED:
        return "FAILED", response.messages
    if response.frames and not response.ended:
        return "PARTIAL", response.messages
    covered = min((last for _, last in goaways(record_.down, cut)), default=1 << 64)
    if response.error is not None or number + 1 > covered:
        return "NOT_PROCESSED", []
    return "AMBIGUOUS", []


# -- the client ------------------------------------------------------------------------------------


def pump(core: Connection[Any], side: int, watch: Watch, hear: Callable[[Any], None]) -> None:
    now = core._now
    moved = True
    while moved:
        moved = False
        for event in core.events():
            hear(event)
            moved = True
        while data := core.data_to_send(now):
            watch.handed(side, data, now)
            watch.written(side, now)
            core.data_sent(len(data), now)
            moved = True


def end(core: Connection[Any], how: str, carry_on: Callable[[], None]) -> None:
    """End the peer's octets, and the connection."""
    if how == "silence":
        for _ in range(20):
            due = core.next_timeout()
            if due is None:
                break
            core.handle_timeout(due)
            carry_on()
        assert core.close_action >= CloseAction.CLOSE, "hangs"
        return
    core.receive_eof(0.0)
    if how == "eof":
        carry_on()
        assert not core.data_to_send(0.0)


def cut_client(
    record_: Record, cut: int, how: str, pieces: Sequence[int] = ()
) -> tuple[Caller, ClientConnection]:
    watch = Watch()
    client = ClientConnection(CONFIG, 0.0, Entropy())
    caller = Caller(client, watch)
    assert tuple(start(caller, spec) for spec in record_.specs) == record_.ids

    def carry_on() -> None:
        pump(client, CLIENT, watch, caller.hear)

    carry_on()
    at = 0
    for to in [*(piece for piece in pieces if piece < cut), cut]:
        data = record_.down[at:to]
        watch.arrived(CLIENT, data, 0.0)
        client.receive_data(data, 0.0)
        carry_on()
        at = to
    end(client, how, carry_on)
    for event in client.events():
        caller.hear(event)
    return caller, client


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("name", EXCHANGES)
def test_a_client_that_loses_its_worker(name: str, how: str) -> None:
    record_ = RECORDS[name]
    seen: set[str] = set()
    for cut in range(len(record_.down) + 1):
        pieces = range(0, cut, 7) if how == "reset" else ()  # any pieces have the same effect
        caller, client = cut_client(record_, cut, how, pieces)
        assert caller.ended is not None
        for number, request_id in enumerate(record_.ids):
            ask = caller.asks[request_id]
            outcome, messages = expectation(record_, cut, number)
            assert (ask.outcome, ask.heard) == (outcome, messages), f"cut at {cut}"
            seen.add(outcome)
        assert client.open_requests == client.buffered_bytes == 0
    assert len(seen) >= 2


def test_every_class_has_been_met() -> None:
    met = {
        expectation(record_, cut, number)[0]
        for record_ in RECORDS.values()
        for cut in range(len(record_.down) + 1)
        for number in range(len(record_.ids))
    }
    assert met == {"SUCCESS", "FAILED", "PARTIAL", "NOT_PROCESSED", "AMBIGUOUS"}


@pytest.mark.parametrize("how", ENDS)
def test_a_refusing_preface(how: str) -> None:
    """Pipelined requests are ambiguous until the refusal is complete (HSK-010)."""
    refusal = codec.encode_preface(9, 7)
    record_ = Record(b"", refusal, RECORDS["unary"].ids, RECORDS["unary"].specs)
    for cut in range(len(refusal) + 1):
        caller, _ = cut_client(record_, cut, how)
        (ask,) = caller.asks.values()
        assert ask.outcome == ("NOT_PROCESSED" if cut == len(refusal) else "AMBIGUOUS")
        assert ask.failure is not None
        assert ask.failure.code in (None, ErrorCode.HANDSHAKE_TIMEOUT)


@pytest.mark.parametrize("how", ["eof", "reset"])
def test_a_request_that_waits_for_the_settings(how: str) -> None:
    """It is NOT_SENT until the SETTINGS let it go, and AMBIGUOUS from then on."""
    down = RECORDS["no end"].down
    settled = next(frames(down)).end
    ids = RECORDS["unary"].ids
    record_ = Record(b"", down, ids, (Spec(b"manual", (EARLY,)),))
    for cut in range(settled + 32):
        caller, _ = cut_client(record_, cut, how)
        assert caller.asks[ids[0]].outcome == ("NOT_SENT" if cut < settled else "AMBIGUOUS")


def test_a_long_response_in_real_frames() -> None:
    """Cuts around every frame boundary, and some inside, of a response of several frames."""
    link = SimLink(client=CONFIG, worker=CONFIG, watch=(tape := Tape()), server=Scripted)
    request_id = start(link.caller, Spec(b"manual"))
    link.run()
    job = link.server.jobs[request_id]
    for size in (200_000, 3, 70_000):
        link.server.say(job, bytes([size % 251]) * size)
    link.server.finish(job)
    link.run(0.1)
    record_ = Record(b"", tape.octets[WORKER], (request_id,), (Spec(b"manual"),))
    bounds = [PREFACE, *(frame.end for frame in frames(record_.down))]
    cuts = {bound + shift for bound in bounds for shift in (-1, 0, 1, 31, 32, 33)}
    cuts |= set(range(0, len(record_.down), 9_973))
    for cut in sorted(at for at in cuts if 0 <= at <= len(record_.down)):
        caller, _ = cut_client(record_, cut, "eof", range(0, cut, 30_000))
        ask = caller.asks[request_id]
        assert (ask.outcome, ask.heard) == expectation(record_, cut, 0), cut


# -- the worker ------------------------------------------------------------------------------------


def cut_worker(
    record_: Record, cut: int, how: str
) -> tuple[Scripted, WorkerConnection, Statistics]:
    watch = Watch()
    statistics = Statistics()
    worker = WorkerConnection(CONFIG, 0.0, Entropy(), subjects={SUBJECT}, statistics=statistics)
    server = Scripted(worker)

    def carry_on() -> None:
        pump(worker, WORKER, watch, server.hear)

    watch.arrived(WORKER, record_.up[:cut], 0.0)
    worker.receive_data(record_.up[:cut], 0.0)
    carry_on()
    end(worker, how, carry_on)
    for event in worker.events():
        server.hear(event)
    return server, worker, statistics


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("name", EXCHANGES)
def test_a_worker_that_loses_its_client(name: str, how: str) -> None:
    record_ = RECORDS[name]
    for cut in range(len(record_.up) + 1):
        server, worker, statistics = cut_worker(record_, cut, how)
        assert server.ended is not None
        assert not server.running
        assert worker.open_requests == worker.buffered_bytes == statistics.active == 0
        for request_id, spec in zip(record_.ids, record_.specs, strict=True):
            heard = told(record_.up, cut, request_id, request=True)
            job = server.jobs.get(request_id)
            assert (job is not None) == (heard.frames > 0 and spec.plan != b"unknown")
            if job is not None:
                assert (job.heard, job.ended) == (heard.messages, heard.ended), f"cut at {cut}"


# -- both ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", [CLIENT, WORKER])
def test_a_link_that_is_cut(direction: int) -> None:
    """Both cores over one link whose octets end somewhere; nobody hangs, nothing is left."""
    exchange = EXCHANGES["bidirectional"]
    total = len(RECORDS["bidirectional"][direction])
    for cut in range(total + 1):
        link = SimLink(client=CONFIG, worker=CONFIG, server=Scripted)
        pipe = link.ends[direction].out
        pipe.left = cut
        for spec in exchange.specs:
            start(link.caller, spec)
        link.run(0.01)
        if not link.over():
            link.cut()
            link.run(0.01)
        assert link.over()
        link.check_content()
        link.check_rest()
        assert not link.server.running
