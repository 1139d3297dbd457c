"""What the cases about frames, types and payloads share. No case is declared here.

``CONTROL_FRAMES`` has one legal frame of each Control and Heartbeat kind; a case overrides one
field of it. ``refused`` holds the whole conversation around such a frame: the set-up up to the
point where it is due, the frame, and the connection error that has to follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

from muxwire_conformance import wire
from muxwire_conformance.case import CaseFunction, case
from muxwire_conformance.context import Context
from muxwire_conformance.dialogue import Connection
from muxwire_conformance.stream import Stream
from muxwire_conformance.wire import Override

UNKNOWN_SUBJECT = "no.such.subject"
REFUSED = ("goaway", "end")
"""The checks of a case that ends in ``expect_connection_error``."""

CONTROL_FRAMES: dict[str, tuple[int, int]] = {
    "settings": (wire.CONTROL, wire.SETTINGS_SUBTYPE),
    "settings-ack": (wire.CONTROL, wire.SETTINGS_ACK),
    "window-update": (wire.CONTROL, wire.WINDOW_UPDATE),
    "stop": (wire.CONTROL, wire.STOP),
    "kill": (wire.CONTROL, wire.KILL),
    "goaway": (wire.CONTROL, wire.GOAWAY),
    "ping": (wire.HEARTBEAT, wire.PING),
    "pong": (wire.HEARTBEAT, wire.PONG),
}
"""Every Control and Heartbeat frame that a client may send, by type and subtype."""

_PAYLOADS: dict[str, bytes] = {
    "settings-ack": b"",
    "window-update": (1 << 27).to_bytes(8, "big"),
    "stop": wire.code("CANCELLED").to_bytes(4, "big"),
    "kill": wire.code("CANCELLED").to_bytes(4, "big"),
    "goaway": wire.goaway()[wire.HEADER_SIZE :],
    "ping": b"12345678",
    "pong": b"12345678",
}


def declare(
    case_id: str, title: str, function: CaseFunction, *, checks: Sequence[str], **options: Any
) -> None:
    """Register one case of a family; ``title`` takes the place of a docstring."""

    async def run(ctx: Context) -> None:
        await function(ctx)

    run.__doc__ = title
    run.__dict__["__wrapped__"] = getattr(function, "func", function)
    case(case_id, checks=checks, **options)(run)


def control_frame(
    ctx: Context,
    conn: Connection,
    name: str,
    payload: bytes | None = None,
    **header: Unpack[Override],
) -> bytes:
    """Build the named frame as a client may send it, but for what is given."""
    kind, subtype = CONTROL_FRAMES[name]
    legal: Override = {"type": kind, "subtype": subtype}
    if name in {"stop", "kill"}:
        legal["request_id"] = ctx.new_id()
    if payload is None:
        payload = conn.settings()[wire.HEADER_SIZE :] if name == "settings" else _PAYLOADS[name]
    legal.update(header)
    return wire.frame(payload, **legal)


async def where_due(ctx: Context, name: str) -> Connection:
    """Bring a connection to the point where a client sends the named frame."""
    if name not in {"settings", "settings-ack"}:
        return await ctx.ready()
    conn = await ctx.connect()
    conn.send(wire.preface())
    if name == "settings-ack":
        conn.send(conn.settings())
        await conn.expect("SETTINGS")
    return conn


async def refused(
    ctx: Context,
    name: str,
    error: str,
    *,
    payload: bytes | None = None,
    **header: Unpack[Override],
) -> None:
    """Send the named frame with a fault, and without it in the run of the twin."""
    conn = await where_due(ctx, name)
    good = control_frame(ctx, conn, name)
    conn.violate(control_frame(ctx, conn, name, payload, **header), instead_of=good)
    await conn.expect_connection_error(error, twin_ends=name == "goaway")


async def outcome(conn: Connection, stream: Stream, error: str) -> None:
    """Expect a refusal with NOT_PROCESSED of a request that breaks no rule of framing.

    Emits ``error`` and ``fence``, as ``expect_stream_error`` does where something was violated.
    """
    await conn.expect_outcome(stream, error, not_processed=True)
    await conn.fence(check="fence")


def some_subject(ctx: Context) -> str:
    """Return a subject that is served if the target declares one, else one that is not found."""
    return "conformance.echo" if ctx.has("conformance") else UNKNOWN_SUBJECT


async def understood(ctx: Context, conn: Connection, stream: Stream, *, check: str) -> None:
    """Expect that a request to ``some_subject`` was found well-formed: served, or not found."""
    frame = await stream.end(check=check)
    if ctx.has("conformance"):
        good, expected = not frame.is_error, "a success terminal"
    else:
        good = frame.error is not None and frame.error.code == wire.code("NOT_FOUND")
        expected = "NOT_FOUND, since the request is well-formed"
    ctx.check(check, good, expected=expected, actual=frame, frame=frame)
    await conn.fence()
