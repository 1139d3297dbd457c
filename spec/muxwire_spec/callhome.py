"""WCH/1, the call-home protocol, on the wire: what it has beside and instead of WMX/1.

A connection carries one response at a time, from the worker that dialled to the router that
listens. The header, RESPONSE, STOP, KILL, PING and PONG are those of `frames`. There is no
REQUEST, no SETTINGS and no credit, so every limit is a number. A frame that is not in `FRAMES`
is unknown here, as these subtypes are in WMX/1.
"""

from __future__ import annotations

from dataclasses import replace

from muxwire_spec import frames as f
from muxwire_spec import registries as r
from muxwire_spec.model import Breach, Constant, FrameKind, Protocol, Scope, Trailing
from muxwire_spec.vocabulary import Coded, ConstOctets, Layout, Octets, Reserved, field, u8, u32

NAME = "WCH/1"
MAGIC = bytes.fromhex("f75743480d0a1a0a")
MAX_FRAME_SIZE = 1_048_576
MAX_MESSAGE_SIZE = 67_108_864
MAX_METADATA_SIZE = r.setting("MAX_METADATA_SIZE").maximum
IDLE_TIMEOUT_MS = 60_000

_BAD_PREFACE = Breach(code="PROTOCOL_ERROR", scope=Scope.CONNECTION, requirement="P0-002")
_SIZE = Breach(code="FRAME_SIZE_ERROR", scope=Scope.CONNECTION, requirement="PAY-001")

PREFACE = Layout(
    "WCH_PREFACE",
    "The first octets of each side of a call-home connection",
    field("magic", ConstOctets(MAGIC), "Says that this is WCH"),
    field("ver_hi", u8, "Worker: highest version offered. Router: version selected"),
    field("ver_lo", u8, "Worker: lowest version offered. Router: equal to ver_hi on success"),
    field("header_size", u8, "Octets of a frame header: 32"),
    field("flags", Reserved(1), "Zero; ignored on receipt"),
    field("idle_timeout_ms", u32, "The sender closes after so long without an octet; 0: 60,000"),
    malformed=_BAD_PREFACE,
    trailing=Trailing.REFUSE,
)

HELLO = Layout(
    "HELLO",
    "Payload of HELLO",
    field("token", Octets(16), "The octets of `wch-token`"),
    malformed=_SIZE,
    trailing=Trailing.REFUSE,
)

ACCEPT = Layout("ACCEPT", "Payload of ACCEPT: nothing", malformed=_SIZE, trailing=Trailing.REFUSE)

REJECT = Layout(
    "REJECT",
    "Payload of REJECT",
    field("code", Coded(u32, r.ERROR_CODES), "NOT_FOUND or CANCELLED"),
    malformed=_SIZE,
    trailing=Trailing.REFUSE,
)

DONE = Layout("DONE", "Payload of DONE: nothing", malformed=_SIZE, trailing=Trailing.REFUSE)

LAYOUTS = (PREFACE, HELLO, ACCEPT, REJECT, DONE)

_KINDS = {kind.name: kind for kind in f.FRAMES}


def _control(name: str, sender: str, payload: Layout, doc: str, length: int) -> FrameKind:
    return replace(
        _KINDS["KILL"],
        name=name,
        subtype=name,
        senders=(sender,),
        length=length,
        payloads=(("", payload.title),),
        doc=doc,
    )


FRAMES: tuple[FrameKind, ...] = (
    replace(_KINDS["RESPONSE"], limit=MAX_FRAME_SIZE),
    replace(_KINDS["STOP"], senders=("router",)),
    replace(_KINDS["KILL"], senders=("router",)),
    replace(_KINDS["PING"], senders=("worker", "router")),
    replace(_KINDS["PONG"], senders=("worker", "router")),
    _control("HELLO", "worker", HELLO, "Names the stream whose response is to come", 16),
    _control("ACCEPT", "router", ACCEPT, "Lets the response begin", 0),
    _control("REJECT", "router", REJECT, "Refuses the stream; the connection is free", 4),
    _control("DONE", "router", DONE, "Confirms the terminal; the connection is free", 0),
)


def _constant(name: str, value: int, unit: str, doc: str) -> Constant:
    return Constant(name=f"WCH_{name}", value=value, unit=unit, doc=doc)


CONSTANTS: tuple[Constant, ...] = (
    _constant("MAX_FRAME_SIZE", MAX_FRAME_SIZE, "octets", "Largest payload of RESPONSE"),
    _constant("MAX_METADATA_SIZE", MAX_METADATA_SIZE, "octets", "Largest metadata_length"),
    _constant("MAX_MESSAGE_SIZE", MAX_MESSAGE_SIZE, "octets", "Largest reassembled message"),
    _constant("IDLE_TIMEOUT_MS", IDLE_TIMEOUT_MS, "ms", "What 0 in a preface stands for"),
    _constant("PREFACE_TIMEOUT_MS", 5_000, "ms", "Dial, or accept, to the peer's preface"),
    _constant("HELLO_TIMEOUT_MS", 5_000, "ms", "Worker: connection in hand to its HELLO"),
    _constant("ACCEPT_TIMEOUT_MS", 5_000, "ms", "Worker: HELLO to ACCEPT or REJECT"),
    _constant("MAX_ATTEMPTS", 3, "attempts", "Worker: to deliver one stream"),
    _constant("DELIVERY_TIMEOUT_MS", 10_000, "ms", "Worker: all attempts of one stream"),
    _constant("ACQUIRE_TIMEOUT_MS", 10_000, "ms", "Worker: waiting for a pooled connection"),
    _constant("TOKEN_LIFETIME_MS", 15_000, "ms", "Router: 202 to the ACCEPT of a stream"),
    _constant("DONE_TIMEOUT_MS", 1_000, "ms", "Router: terminal read to DONE"),
    _constant("DONE_PATIENCE_MS", 5_000, "ms", "Worker: terminal written to DONE"),
    _constant("MAX_REJECTS", 3, "frames", "Router: REJECT(NOT_FOUND) on one connection"),
    _constant("ANSWER_TIMEOUT_MS", 10_000, "ms", "Router: whole POST sent to the HTTP answer"),
    _constant("KILL_PATIENCE_MS", 5_000, "ms", "Router: KILL to giving up, without a deadline"),
    _constant("POOL_MAX_PER_TARGET", 50, "connections", "`DYN_TCP_POOL_MAX_PER_TARGET`"),
    _constant("POOL_MIN_IDLE", 5, "connections", "`DYN_TCP_POOL_MIN_IDLE`"),
    _constant("POOL_IDLE_TIMEOUT_S", 300, "s", "`DYN_TCP_POOL_IDLE_TIMEOUT_SECS`"),
    _constant("POOL_MAX_LIFETIME_S", 3_600, "s", "`DYN_TCP_POOL_MAX_LIFETIME_SECS`"),
    _constant("POOL_KEEPALIVE_S", 60, "s", "`DYN_TCP_POOL_KEEPALIVE_SECS`"),
    _constant("POOL_ENABLED", 1, "0 or 1", "`DYN_TCP_POOL_ENABLED`: `true` or `false`"),
)

WCH = Protocol(
    name=NAME,
    magic=MAGIC,
    preface=PREFACE.title,
    dials="worker",
    listens="router",
    frames=FRAMES,
    constants=CONSTANTS,
)
