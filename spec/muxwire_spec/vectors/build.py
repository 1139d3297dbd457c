"""Octets for vectors: what the layouts build, and what they would not build.

A vector says which octets a receiver gets. What the receiver makes of them is not said here but
computed (`muxwire_spec.vectors.expectation`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from muxwire_spec import callhome
from muxwire_spec import frames as f
from muxwire_spec import registries as r
from muxwire_spec.interpret import WMX
from muxwire_spec.model import FrameKind
from muxwire_spec.vocabulary import Layout

REQUEST_ID = bytes.fromhex("0190b3f27c4e7a118f000123456789ab")
ZERO = bytes(16)
ONES = b"\xff" * 16
END, MORE, META, ERROR = (r.FLAGS.value(n) for n in ("END_STREAM", "MORE", "META", "ERROR"))

Headers = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """Octets that `receiver` gets, behind the preface; `first` if they are its first frame.

    The first of `requirements` is what the vector is about. In a vector that has to be refused it
    is the rule that the octets break.
    """

    name: str
    doc: str
    requirements: tuple[str, ...]
    receiver: str
    first: bool
    octets: bytes
    protocol: str = WMX


def vector(
    name: str,
    requirements: str,
    octets: bytes,
    doc: str,
    *,
    to: str = "worker",
    first: bool = False,
) -> Vector:
    """Return a vector; `requirements` are ids with spaces between them."""
    return Vector(
        name=name,
        doc=doc,
        requirements=tuple(requirements.split()),
        receiver=to,
        first=first,
        octets=octets,
    )


def preface(**fields: Any) -> bytes:
    """Return a preface; fields not given have their usual value."""
    built: bytes = f.PREFACE.build({"header_size": f.HEADER_SIZE, **fields})
    return built


def frame(
    kind: str, payload: bytes | Mapping[str, Any] = b"", *, flags: int = 0, **header: Any
) -> bytes:
    """Return a frame of a kind, its payload given as octets or as fields.

    Args:
        kind: Name of a FrameKind.
        payload: What stands behind the header.
        flags: Flags of the header; they select the layout of the payload's fields.
        header: Header fields that differ from what frames of this kind have.
    """
    kinds = (*f.FRAMES, *callhome.FRAMES)
    found = next(candidate for candidate in kinds if candidate.name == kind)
    octets = payload if isinstance(payload, bytes) else _layout(found, flags).build(payload)
    subtypes = r.CONTROL_SUBTYPES if found.type == "CONTROL" else r.HEARTBEAT_SUBTYPES
    usual = {
        "type": r.FRAME_TYPES.value(found.type),
        "flags": flags,
        "subtype": 0 if found.subtype is None else subtypes.value(found.subtype),
        "seq": 0,
        "payload_length": len(octets),
        "request_id": REQUEST_ID if found.scope == "request" else ZERO,
    }
    built: bytes = f.HEADER.build(usual | header)
    return built + octets


def _layout(kind: FrameKind, flags: int) -> Layout:
    name = next(name for flag, name in kind.payloads if not flag or flags & r.FLAGS.value(flag))
    layouts = (*f.LAYOUTS, *callhome.LAYOUTS)
    return next(layout for layout in layouts if layout.title == name)


def header_only(kind: str, length: int, **header: Any) -> bytes:
    """Return a header that announces `length` octets, and none of them."""
    return frame(kind, payload_length=length, **header)


def opening(
    subject: bytes = b"a",
    headers: Headers = (),
    *,
    extension: bytes = b"",
    body: bytes = b"",
    timeout_ms: int = 0,
    request_flags: int = 0,
) -> bytes:
    """Return the payload of an OPEN; `extension` stands behind the last header."""
    fields = {
        "timeout_ms": timeout_ms,
        "request_flags": request_flags,
        "subject": subject,
        "headers": _items(headers),
    }
    return _block(f.OPEN, fields, extension) + body


def meta(headers: Headers = (), *, extension: bytes = b"", body: bytes = b"") -> bytes:
    """Return the payload of a RESPONSE with META; `extension` stands behind the last header."""
    return _block(f.RESPONSE_META, {"headers": _items(headers)}, extension) + body


def _items(headers: Headers) -> list[dict[str, bytes]]:
    return [{"key": key, "value": value} for key, value in headers]


def _block(layout: Layout, fields: Mapping[str, Any], extension: bytes) -> bytes:
    block: bytes = layout.subcons[0].subcon.body.build(fields) + extension
    return len(block).to_bytes(4) + block


def error(
    message: bytes = b"", *, code: int = 0x107, error_flags: int = 0, detail: bytes = b""
) -> bytes:
    """Return an error body, of APPLICATION_ERROR unless told otherwise."""
    fields = {"code": code, "error_flags": error_flags, "retry_after_ms": 0}
    built: bytes = f.ERROR_BODY.build({**fields, "message": message, "detail": detail})
    return built


def goaway(message: bytes = b"", *, code: int = 0) -> bytes:
    """Return the payload of a GOAWAY, a drain unless told otherwise."""
    fields = {"code": code, "last_ordinal": 3, "grace_ms": 30_000}
    built: bytes = f.GOAWAY.build({**fields, "message": message})
    return built


def settings(*pairs: tuple[int, int]) -> bytes:
    """Return the payload of a SETTINGS."""
    items = [{"id": number, "value": value} for number, value in pairs]
    built: bytes = f.SETTINGS_PAYLOAD.build({"settings": items})
    return built
