"""Vectors of WCH/1: prefaces, its frames, and what has no place on a call-home connection.

W1 to W6 are permanent, like V1 to V11: their octets are written out and not computed.
"""

from __future__ import annotations

from dataclasses import replace

from muxwire_spec import callhome as c
from muxwire_spec.interpret import WCH
from muxwire_spec.vectors import build
from muxwire_spec.vectors.build import (
    END,
    ERROR,
    META,
    MORE,
    ONES,
    REQUEST_ID,
    ZERO,
    Vector,
    error,
    frame,
    goaway,
    header_only,
    meta,
    opening,
    settings,
)

TOKEN = bytes.fromhex("00112233445566778899aabbccddeeff")
HELLO = frame("HELLO", TOKEN)


def preface(**fields: int | bytes) -> bytes:
    """Return a preface of WCH/1 that offers, or selects, version 1 unless told otherwise."""
    usual = {"ver_hi": 1, "ver_lo": 1, "header_size": 32, "idle_timeout_ms": 0}
    built: bytes = c.PREFACE.build({**usual, **fields})
    return built


def _vector(name: str, requirements: str, octets: bytes, doc: str, *, to: str) -> Vector:
    found = build.vector(name, requirements, octets, doc, to=to)
    return replace(found, protocol=WCH)


def _hex(text: str) -> bytes:
    return bytes.fromhex(text)


GOLDEN: tuple[Vector, ...] = (
    _vector(
        "W1",
        "P0-002",
        _hex("f7 57 43 48 0d 0a 1a 0a 01 01 20 00 00 00 00 00"),
        "Preface of a worker that offers version 1 and has the usual idle timeout",
        to="router",
    ),
    _vector(
        "W2",
        "P0-003",
        _hex(
            """
            f7 03 00 20 00 00 00 00 00 00 00 00 00 00 00 10
            01 90 b3 f2 7c 4e 7a 11 8f 00 01 23 45 67 89 ab
            00 11 22 33 44 55 66 77 88 99 aa bb cc dd ee ff
            """
        ),
        "HELLO",
        to="router",
    ),
    _vector(
        "W3",
        "P0-003",
        _hex(
            """
            f7 03 00 21 00 00 00 00 00 00 00 00 00 00 00 00
            01 90 b3 f2 7c 4e 7a 11 8f 00 01 23 45 67 89 ab
            """
        ),
        "ACCEPT",
        to="worker",
    ),
    _vector(
        "W4",
        "P0-004",
        _hex(
            """
            f7 03 00 22 00 00 00 00 00 00 00 00 00 00 00 04
            01 90 b3 f2 7c 4e 7a 11 8f 00 01 23 45 67 89 ab
            00 00 01 02
            """
        ),
        "REJECT with NOT_FOUND",
        to="worker",
    ),
    _vector(
        "W5",
        "P0-008",
        _hex(
            """
            f7 03 00 23 00 00 00 00 00 00 00 00 00 00 00 00
            01 90 b3 f2 7c 4e 7a 11 8f 00 01 23 45 67 89 ab
            """
        ),
        "DONE",
        to="worker",
    ),
    _vector(
        "W6",
        "P0-002 P0-014",
        _hex("f7 57 43 48 0d 0a 1a 0a 01 01 20 00 00 00 01 90"),
        "Preface of a router that accepts, with an idle timeout of 400 ms",
        to="worker",
    ),
)

_KILL = frame("KILL", {"reason": 0x100})
_STOP = frame("STOP", {"reason": 0x100})
_PING = frame("PING", bytes(8))

ACCEPTED: tuple[Vector, ...] = (
    _vector(
        "wch-preface-range",
        "P0-002 HSK-003",
        preface(ver_hi=3, idle_timeout_ms=600_000),
        "A worker offers versions 1 to 3",
        to="router",
    ),
    _vector(
        "wch-preface-header-size",
        "P0-002 HSK-004",
        preface(header_size=48),
        "A header of 48 octets: the router refuses",
        to="router",
    ),
    _vector(
        "wch-preface-flags",
        "P0-002",
        preface(flags=b"\xff"),
        "The reserved octet is ignored",
        to="router",
    ),
    _vector(
        "wch-preface-idle-low",
        "P0-002",
        preface(idle_timeout_ms=99),
        "Below the range: no preface of WCH/1",
        to="router",
    ),
    _vector(
        "wch-preface-idle-high",
        "P0-002",
        preface(idle_timeout_ms=600_001),
        "Above the range: no preface of WCH/1",
        to="worker",
    ),
    _vector(
        "wch-reject-cancelled",
        "P0-004 P0-018",
        frame("REJECT", {"code": 0x100}),
        "REJECT with CANCELLED",
        to="worker",
    ),
    _vector(
        "wch-reject-unknown-code",
        "P0-004 PAY-008",
        frame("REJECT", {"code": 0x8000_0001}),
        "A code of an application",
        to="worker",
    ),
    _vector(
        "wch-hello-flags", "FRM-006", frame("HELLO", TOKEN, flags=0xF0), "Ignored bits", to="router"
    ),
    _vector("wch-stop", "P0-011", _STOP, "STOP", to="worker"),
    _vector("wch-kill", "P0-011", _KILL, "KILL", to="worker"),
    _vector("wch-ping-to-worker", "P0-014", _PING, "PING of a router", to="worker"),
    _vector("wch-ping-to-router", "P0-014", _PING, "PING of a worker", to="router"),
    _vector("wch-pong-to-worker", "P0-014", frame("PONG", bytes(8)), "PONG", to="worker"),
    _vector("wch-pong-to-router", "P0-014", frame("PONG", bytes(8)), "PONG", to="router"),
    _vector("wch-response", "P0-003", frame("RESPONSE", b"hi"), "A message", to="router"),
    _vector(
        "wch-response-meta",
        "TYP-005",
        frame("RESPONSE", meta([(b"content-type", b"text/plain")]), flags=META),
        "Headers",
        to="router",
    ),
    _vector(
        "wch-response-more",
        "MSG-001",
        frame("RESPONSE", b"h", flags=MORE, seq=7),
        "A chunk",
        to="router",
    ),
    _vector("wch-success", "P0-007", frame("RESPONSE", flags=END, seq=1), "Terminal", to="router"),
    _vector(
        "wch-error",
        "P0-007",
        frame("RESPONSE", error(b"no"), flags=END | ERROR),
        "An error terminal",
        to="router",
    ),
    _vector(
        "wch-extension-type",
        "FRM-005",
        frame("PING", b"?", type=0x8A, seq=9),
        "An ignorable type",
        to="worker",
    ),
    _vector(
        "wch-extension-subtype",
        "FRM-005",
        frame("HELLO", b"?", subtype=0xA0),
        "An ignorable Control subtype",
        to="router",
    ),
)

INCOMPLETE: tuple[Vector, ...] = (
    _vector("wch-hello-cut", "FRM-011", HELLO[:-1], "HELLO without its last octet", to="router"),
    _vector("wch-header-cut", "FRM-011", HELLO[:31], "31 octets of a header", to="router"),
    _vector(
        "wch-response-largest",
        "FRM-003",
        header_only("RESPONSE", c.MAX_FRAME_SIZE),
        "The largest payload is still to come",
        to="router",
    ),
)


def _unknown(name: str, octets: bytes, doc: str) -> tuple[Vector, ...]:
    """Return the same octets to both sides, which do not know them."""
    return tuple(
        _vector(f"wch-{name}-to-{to}", "FRM-004 P0-012", octets, doc, to=to)
        for to in ("worker", "router")
    )


REFUSED: tuple[Vector, ...] = (
    *_unknown("request", frame("REQUEST", opening(), flags=META | END), "WCH has no REQUEST"),
    *_unknown("settings", frame("SETTINGS", settings()), "WCH has no SETTINGS"),
    *_unknown("settings-ack", frame("SETTINGS_ACK"), "WCH has no SETTINGS_ACK"),
    *_unknown(
        "window-update",
        frame("WINDOW_UPDATE", {"limit": 1}, request_id=REQUEST_ID),
        "WCH has no credit",
    ),
    *_unknown("goaway", frame("GOAWAY", goaway()), "WCH has no GOAWAY"),
    *_unknown("subtype-next", frame("DONE", subtype=0x24), "Control 0x24"),
    _vector("wch-marker", "FRM-002", frame("DONE", marker=0x77), "A wrong marker", to="worker"),
    _vector("wch-text", "FRM-002", b"HTTP/1.1 400 ", "An HTTP server answers", to="worker"),
    _vector("wch-hello-to-worker", "TYP-001", HELLO, "A worker gets none", to="worker"),
    _vector("wch-response-to-worker", "TYP-001", frame("RESPONSE", b"x"), "None", to="worker"),
    _vector("wch-accept-to-router", "TYP-001", frame("ACCEPT"), "A router gets none", to="router"),
    _vector(
        "wch-reject-to-router", "TYP-001", frame("REJECT", {"code": 0x102}), "None", to="router"
    ),
    _vector("wch-done-to-router", "TYP-001", frame("DONE"), "A router gets none", to="router"),
    _vector("wch-stop-to-router", "TYP-001", _STOP, "A router gets none", to="router"),
    _vector("wch-kill-to-router", "TYP-001", _KILL, "A router gets none", to="router"),
    _vector(
        "wch-length-response",
        "FRM-003",
        header_only("RESPONSE", c.MAX_FRAME_SIZE + 1),
        "One too many",
        to="router",
    ),
    _vector(
        "wch-length-extension",
        "FRM-003",
        header_only("PING", c.MAX_FRAME_SIZE + 1, type=0x8A),
        "One too many",
        to="worker",
    ),
    _vector("wch-length-hello", "FRM-003", header_only("HELLO", 4_097), "Control", to="router"),
    _vector(
        "wch-hello-with-end", "FRM-006", frame("HELLO", TOKEN, flags=END), "END_STREAM", to="router"
    ),
    _vector("wch-hello-seq", "FRM-007", frame("HELLO", TOKEN, seq=1), "A seq", to="router"),
    _vector("wch-hello-zero", "FRM-008", frame("HELLO", TOKEN, request_id=ZERO), "Id", to="router"),
    _vector("wch-hello-ones", "FRM-008", frame("HELLO", TOKEN, request_id=ONES), "Id", to="router"),
    _vector("wch-accept-zero", "FRM-008", frame("ACCEPT", request_id=ZERO), "Id", to="worker"),
    _vector(
        "wch-reject-zero",
        "FRM-008",
        frame("REJECT", {"code": 0x102}, request_id=ZERO),
        "Id",
        to="worker",
    ),
    _vector("wch-done-ones", "FRM-008", frame("DONE", request_id=ONES), "Id", to="worker"),
    _vector("wch-hello-empty", "PAY-001", frame("HELLO"), "No token", to="router"),
    _vector("wch-hello-15", "PAY-001", frame("HELLO", TOKEN[:15]), "15 octets", to="router"),
    _vector("wch-hello-17", "PAY-001", frame("HELLO", TOKEN + b"!"), "17 octets", to="router"),
    _vector("wch-accept-1", "PAY-001", frame("ACCEPT", b"!"), "One octet", to="worker"),
    _vector("wch-reject-empty", "PAY-001", frame("REJECT"), "No code", to="worker"),
    _vector("wch-reject-3", "PAY-001", frame("REJECT", bytes(3)), "3 octets", to="worker"),
    _vector("wch-reject-5", "PAY-001", frame("REJECT", bytes(5)), "5 octets", to="worker"),
    _vector("wch-done-1", "PAY-001", frame("DONE", b"!"), "One octet", to="worker"),
    _vector(
        "wch-metadata-limit",
        "PAY-002",
        frame("RESPONSE", (c.MAX_METADATA_SIZE + 1).to_bytes(4), flags=META),
        "The metadata may have 65,536 octets",
        to="router",
    ),
    _vector(
        "wch-end-more", "TYP-002", frame("RESPONSE", flags=END | MORE), "Both flags", to="router"
    ),
    _vector(
        "wch-two-faults",
        "FRM-008 PAY-001",
        frame("HELLO", TOKEN[:15], request_id=ZERO),
        "The id comes before the length",
        to="router",
    ),
)

VECTORS: tuple[Vector, ...] = (*GOLDEN, *ACCEPTED, *INCOMPLETE, *REFUSED)
