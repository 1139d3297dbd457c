"""Bugs that are planted to see whether the fuzzers see them.

Rules of this file: a bug is put in by replacing a function or a value, never in the product.  It is
something that a tired engineer could have written, and it breaks the requirement that it names.
Some of them were real, and found by these fuzzers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from muxwire._generated import codec
from muxwire.callhome import fields as callhome_fields
from muxwire.core import client, sendqueue
from muxwire.core.callhome import CallHome, RouterStream, WorkerEnd, router_stream
from muxwire.core.callhome.worker import WCH_WORKER_CONNECTION_ENDED
from muxwire.core.client import ClientConnection
from muxwire.core.connection import Connection
from muxwire.core.flow import ReceiveCredit
from muxwire.core.heartbeat import Heartbeat
from muxwire.core.http import BinaryReader, NdjsonReader, Response, SseReader
from muxwire.core.http import sse as sse_module
from muxwire.core.http.reading import Done
from muxwire.core.messages import Reassembly
from muxwire.core.request import Request
from muxwire.core.settings import Settings
from muxwire.core.tombstones import Tombstones
from muxwire.core.worker import WorkerConnection
from muxwire.http import fields as http_fields
from muxwire.http import negotiation
from muxwire_conformance import baseline, lastfailed, recorded

Put = Callable[[Any, str, Any], None]
"""Replaces an attribute; `monkeypatch.setattr` is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A bug: where a fuzzer is to find it, the rule it breaks, and what puts it in."""

    name: str
    target: str
    rule: str
    doc: str
    plant: Callable[[Put], None]


PLANTED: list[Planted] = []


def bug(target: str, rule: str, doc: str) -> Callable[[Callable[[Put], None]], None]:
    """Register a bug; its name is that of the function."""

    def register(plant: Callable[[Put], None]) -> None:
        name = plant.__name__.replace("_", "-")
        PLANTED.append(Planted(name=name, target=target, rule=rule, doc=doc, plant=plant))

    return register


# -- decoder


@bug("decoder", "PAY-001", "a STOP of any length is taken for one of 4 octets")
def stop_of_any_length(put: Put) -> None:
    decode = codec.decode_stop
    put(codec, "decode_stop", lambda payload: decode(payload[:4].ljust(4, b"\0")))
    kind, scope, receivers, _, largest, divisor = codec._KINDS[0x0304]
    kinds = {**codec._KINDS, 0x0304: (kind, scope, receivers, None, largest, divisor)}
    put(codec, "_ROLES", tuple(
        role._replace(kinds=kinds) if role.kinds is codec._KINDS else role for role in codec._ROLES
    ))  # fmt: skip


@bug("decoder", "PAY-004", "a subject may have empty labels")
def empty_labels(put: Put) -> None:
    put(codec, "_SUBJECT", re.compile(rb"[A-Za-z0-9_.-]+").fullmatch)


@bug("decoder", "PAY-005", "a header value may be any octets")
def values_of_any_octets(put: Put) -> None:
    put(codec, "_is_utf8", lambda _octets: True)


@bug("decoder", "PAY-007", "both flags of an error body may be set")
def both_error_flags(put: Put) -> None:
    put(codec, "_ERROR_FLAGS_EXCLUSIVE", 0x10000)


@bug("decoder", "SET-001", "the greatest value of a setting is not allowed")
def greatest_setting(put: Put) -> None:
    read = Settings.from_wire.__func__  # type: ignore[attr-defined]

    def from_wire(cls: type[Settings], pairs: Any) -> Settings:
        found: Settings = read(cls, pairs)
        if found.max_frame_size == 16_777_216:
            read(cls, [(1, 1)])
        return found

    put(Settings, "from_wire", classmethod(from_wire))


# -- chunking


@bug("chunking", "FRM-011", "a header that lacks its last octet loses the first of the rest")
def header_cut_before_its_last_octet(put: Put) -> None:
    feed = codec.FrameDecoder.feed

    def lossy(self: codec.FrameDecoder, data: bytes) -> None:
        feed(self, data[1:] if self._pending is None and self.buffered == 31 else data)

    put(codec.FrameDecoder, "feed", lossy)


@bug("chunking", "P0-002", "a preface in pieces swallows the octet behind it")
def octet_behind_a_preface(put: Put) -> None:
    feed = CallHome._feed_preface

    def lossy(self: CallHome, octets: bytes, data: bytes) -> bytes:
        return feed(self, octets, data)[bool(octets) :]

    put(CallHome, "_feed_preface", lossy)


# -- connection


@bug("connection", "FRM-010", "sequence numbers are counted and not checked")
def sequence_unchecked(put: Put) -> None:
    def count(self: Request, seq: int) -> None:  # noqa: ARG001
        self.next_seq += 1

    put(Request, "check_seq", count)


@bug("connection", "RID-002", "a request that has ended leaves no tombstone")
def no_tombstones(put: Put) -> None:
    put(Tombstones, "__contains__", lambda _self, _id: False)


@bug("connection", "CAN-003", "a handler is asked to stop by each KILL and deadline")
def cancelled_again(put: Put) -> None:
    cancel = WorkerConnection._cancel

    def again(self: WorkerConnection, request: Any, reason: Any) -> None:
        request.cancelled = False
        cancel(self, request, reason)

    put(WorkerConnection, "_cancel", again)


@bug("connection", "HBT-002", "of two PINGs in one segment only the first is answered")
def one_pong_a_segment(put: Put) -> None:
    control = Connection._on_control

    def once(self: Any, kind: int, request_id: bytes, payload: bytes) -> None:
        if kind != codec.PING or not self._scheduler.control_size:
            control(self, kind, request_id, payload)

    put(Connection, "_on_control", once)


@bug("connection", "HBT-003", "a peer that falls silent after its preface is waited for")
def silence_unnoticed(put: Put) -> None:
    put(Heartbeat, "check", lambda _self, _now: None)


@bug("connection", "MSG-002", "an empty terminal of a response is an empty message")
def empty_terminal(put: Put) -> None:
    put(client, "response_is_silent", lambda _flags: False)


@bug("connection", "FLW-001", "metadata costs nothing on a stream")
def free_metadata(put: Put) -> None:
    take = sendqueue.SendQueue.take

    def cheap(self: Any, parts: Any, connection: Any, most: int) -> int:
        metadata = self.entries[0][0]
        taken = take(self, parts, connection, most)
        if taken > 0:
            self.sent -= len(metadata)
        return taken

    put(sendqueue.SendQueue, "take", cheap)


@bug("connection", "DOS-003", "a handler that outlives its terminal keeps its place for ever")
def place_kept(put: Put) -> None:
    ended = WorkerConnection._handler_ended

    def forgetful(self: WorkerConnection, request_id: bytes) -> Any:
        orphan = request_id in self._orphans
        found = ended(self, request_id)
        if orphan:
            self.statistics.start()
        return found

    put(WorkerConnection, "_handler_ended", forgetful)


# -- pair


@bug("pair", "MSG-001", "a message in three or more frames loses its second chunk")
def second_chunk_lost(put: Put) -> None:
    take = Reassembly.take

    def short(self: Reassembly) -> bytes:
        if len(self._chunks) > 2:
            del self._chunks[1]
        return take(self)

    put(Reassembly, "take", short)


@bug("pair", "CLS-007", "the last_ordinal of a drain is one too small")
def ordinal_too_small(put: Put) -> None:
    put(WorkerConnection, "_last_ordinal", lambda self: max(self._ordinals - 1, 0))


@bug("pair", "REC-002", "a lost request without an answer was never sent")
def never_sent(put: Put) -> None:
    classify = ClientConnection._classify

    def hopeful(self: ClientConnection, request: Any, *, sent: bool) -> Any:
        return classify(self, request, sent=sent and request.responded)

    put(ClientConnection, "_classify", hopeful)


@bug("pair", "FLW-008", "credit comes back to the connection late and never to a stream")
def stream_credit_lost(put: Put) -> None:
    def forget(self: ReceiveCredit, stream: Any, cost: int) -> bool:
        self.held -= cost
        stream.returned += cost // 2
        return False

    put(ReceiveCredit, "give_back", forget)


# -- call-home


@bug("callhome", "P0-003", "the response begins before ACCEPT")
def response_before_accept(put: Put) -> None:
    def write(self: WorkerEnd, parts: Any) -> None:
        if self.stream is not None and self.state != WCH_WORKER_CONNECTION_ENDED:
            self._write_stream(self.stream, parts)
            self._events += self.stream.events()

    put(WorkerEnd, "_write", write)


@bug("callhome", "P0-018", "a 202 behind the last response leaves a timer always due (real)")
def late_202(put: Put) -> None:
    def admitted(self: RouterStream, now: float) -> None:
        if not self._admitted:
            self._admitted = True
            self._step(router_stream.IN_WCH_ROUTER_STREAM_ADMITTED)
            self._token_until = now + router_stream._LIFETIME

    put(RouterStream, "admitted", admitted)


@bug("callhome", "P0-012", "a router takes responses in any sequence")
def any_sequence_home(put: Put) -> None:
    def count(self: RouterStream, seq: int) -> None:  # noqa: ARG001
        self._next_seq += 1

    put(RouterStream, "_check_seq", count)


# -- readers


@bug("readers", "P1-022", "an LF that the next piece brings behind a CR ends another line")
def cr_at_a_cut(put: Put) -> None:
    read = SseReader.read

    def forgetful(self: SseReader, data: bytes) -> Iterator[Any]:
        self._skip_lf = False
        return read(self, data)

    put(SseReader, "read", forgetful)


@bug("readers", "P1-022", "a line of NDJSON without LF is read when it looks whole")
def line_without_lf(put: Put) -> None:
    read = NdjsonReader.read
    put(NdjsonReader, "read", lambda self, data: read(self, data + b"\n" * data.endswith(b"}")))


@bug("readers", "P1-022", "a binary response may change its request id")
def changing_id(put: Put) -> None:
    put(BinaryReader, "_take_id", lambda self, id: setattr(self, "_request_id", id))


@bug("readers", "P1-022", "base64 may have needless padding (real)")
def needless_padding(put: Put) -> None:
    def decoded(text: bytes, seq: int, limit: int) -> bytes:
        return original(text[: len(text.rstrip(b"=")) + -len(text.rstrip(b"=")) % 4], seq, limit)

    original = sse_module.from_base64
    put(sse_module, "from_base64", decoded)


@bug("readers", "P1-009", "the number in done is not compared")
def done_uncounted(put: Put) -> None:
    take = Response._take

    def lenient(self: Response, event: Any, now: float) -> None:
        take(self, Done(None, event.trailers) if isinstance(event, Done) else event, now)

    put(Response, "_take", lenient)


# -- negotiation


@bug("negotiation", "P1-001", "a weight above 1 counts")
def weight_above_one(put: Put) -> None:
    put(negotiation, "_WEIGHT", re.compile(r"[0-9](\.[0-9]{0,3})?"))


@bug("negotiation", "P1-001", "a media range with spaces around its slash counts")
def spaced_range(put: Put) -> None:
    token = negotiation._TOKEN
    put(negotiation, "_RANGE", re.compile(rf"\s*({token})\s*/\s*({token})\s*"))


@bug("negotiation", "P1-015", "wmx-heartbeat-ms has no upper limit")
def heartbeat_unlimited(put: Put) -> None:
    put(http_fields, "HTTP_MAX_HEARTBEAT_MS", 2**32)


@bug("negotiation", "P0-017", "the unused bits of a token may be set")
def token_bits(put: Put) -> None:
    put(callhome_fields, "_TOKEN", re.compile(r"[A-Za-z0-9_-]{22}"))


# -- what the judge reads


@bug("judgefiles", "api", "a report that is no object is no error of the judge (real)")
def report_that_is_no_object(put: Put) -> None:
    put(lastfailed, "runs_of", lambda document: list(document.get("runs", [])))


@bug("judgefiles", "api", "a backslash in a reason is written as it is")
def backslash_unescaped(put: Put) -> None:
    put(baseline, "toml_string", lambda text: '"' + text.replace('"', '\\"') + '"')


@bug("judgefiles", "api", "a record with an infinite length ends the judge (real)")
def infinite_length(put: Put) -> None:
    records = recorded._records

    def careless(text: str) -> list[recorded.Record]:
        try:
            return records(text)
        except OverflowError as error:
            raise ArithmeticError("too large") from error

    put(recorded, "_records", careless)
