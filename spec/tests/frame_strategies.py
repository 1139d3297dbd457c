"""Hypothesis strategies computed from the specification: valid frames, near misses, garbage."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from muxwire_spec import callhome
from muxwire_spec import frames as f
from muxwire_spec import model as ir
from muxwire_spec import registries as r
from muxwire_spec.interpret import WMX, payload_layout
from muxwire_spec.spec import load_spec
from muxwire_spec.vocabulary import Layout

_LAYOUTS: dict[str, Layout] = {layout.title: layout for layout in (*f.LAYOUTS, *callhome.LAYOUTS)}

request_ids = st.binary(min_size=16, max_size=16).filter(
    lambda octets: octets not in (bytes(16), b"\xff" * 16)
)


def values(layout: ir.Layout) -> st.SearchStrategy[dict[str, Any]]:
    """Draw what construct needs to build a layout that breaks no rule."""
    return st.fixed_dictionaries(
        {field.name: _value(field.node) for field in layout.fields if _is_given(field.node)}
    )


def _is_given(node: ir.Node) -> bool:
    return not isinstance(node, ir.Counted | ir.Const | ir.ConstOctets | ir.Reserved)


def _value(node: ir.Node) -> st.SearchStrategy[Any]:
    match node:
        case ir.UInt(bits=bits):
            return st.integers(0, 2**bits - 1)
        case ir.Coded(base=base, registry=registry):
            known = [entry.value for entry in load_spec().registry(registry).entries]
            return st.sampled_from(known) | st.integers(0, 2**base.bits - 1)
        case ir.FlagSet(base=base, registry=registry, exclusive=exclusive):
            mask = sum(load_spec().registry(registry).value(name) for name in exclusive)
            return st.integers(0, 2**base.bits - 1).filter(
                lambda value: not mask or value & mask != mask
            )
        case ir.Octets(size=size):
            return st.binary(min_size=size, max_size=size)
        case ir.Rest():
            return st.binary(max_size=40)
        case ir.Text(minimum=minimum, maximum=maximum, pattern=None):
            return st.binary(min_size=minimum, max_size=min(maximum, 24))
        case ir.Text(maximum=maximum, pattern=pattern):
            text = st.from_regex(rf"\A(?:{pattern})\Z").filter(str.isprintable)
            return text.map(str.encode).filter(lambda octets: len(octets) <= maximum)
        case ir.Nested(body=body):
            return values(body)
        case ir.Listed(item=item, unique=unique):
            by = None if unique is None else lambda entry: entry[unique]
            return st.lists(values(item), max_size=4, unique_by=by)
    raise TypeError(node)


@st.composite
def valid_frames(draw: st.DrawFn, sender: str = "client", protocol: str = WMX) -> bytes:
    """Draw one frame that its receiver accepts, whatever the connection's state."""
    frames = f.FRAMES if protocol == WMX else callhome.FRAMES
    kind = draw(st.sampled_from([kind for kind in frames if sender in kind.senders]))
    flags = 0
    seq = 0
    if kind.subtype is None:
        seq = draw(st.sampled_from((0, 1, 2**32 - 1)))
        flags = draw(st.sampled_from(legal_flags(kind.name, seq)))
    subtype = 0
    if kind.subtype is not None:
        registry = r.CONTROL_SUBTYPES if kind.type == "CONTROL" else r.HEARTBEAT_SUBTYPES
        subtype = registry.value(kind.name)
    layout = payload_layout({"flags": flags}, kind)
    payload = layout.build(draw(values(load_spec().layout(layout.title))))
    request_id = bytes(16) if kind.scope == "connection" else draw(request_ids)
    flags |= draw(st.sampled_from((0, 0x10, 0xF0)))
    return header(r.FRAME_TYPES.value(kind.type), flags, subtype, seq, request_id, payload)


def legal_flags(kind: str, seq: int) -> tuple[int, ...]:
    """Return the flags that FRM-006 and TYP-002 to TYP-005 allow, spelled out by hand."""
    if kind == "REQUEST":
        return (4, 5, 6) if seq == 0 else (0, 1, 2)
    return (0, 1, 2, 4, 5, 6, 9) if seq == 0 else (0, 1, 2, 5, 9)


@st.composite
def extension_frames(draw: st.DrawFn) -> bytes:
    """Draw a frame that every receiver has to skip."""
    payload = draw(st.binary(max_size=40))
    if draw(st.booleans()):
        fields = draw(st.tuples(st.integers(0x80, 0xFF), *[st.integers(0, 255)] * 2))
        seq = draw(st.integers(0, 2**32 - 1))
        return header(*fields, seq, draw(st.binary(min_size=16, max_size=16)), payload)
    subtype = draw(st.integers(0x80, 0xFF))
    request_id = draw(st.binary(min_size=16, max_size=16))
    return header(r.FRAME_TYPES.value("CONTROL"), 0, subtype, 0, request_id, payload)


def header(
    type_: int, flags: int, subtype: int, seq: int, request_id: bytes, payload: bytes
) -> bytes:
    """Return a frame made by construct."""
    built: bytes = f.HEADER.build(
        {
            "type": type_,
            "flags": flags,
            "subtype": subtype,
            "seq": seq,
            "payload_length": len(payload),
            "request_id": request_id,
        }
    )
    return built + payload


@st.composite
def near_frames(draw: st.DrawFn, sender: str = "client", protocol: str = WMX) -> bytes:
    """Draw a valid frame with one thing wrong: a header field, or one octet, or its length."""
    frame = bytearray(draw(valid_frames(sender, protocol)))
    fields = {
        0: st.sampled_from((0xF6, 0x00, 0x16)),
        1: st.sampled_from((0, 1, 2, 3, 4, 5, 0x7F, 0x80, 0x8A, 0xFF)),
        2: st.integers(0, 255),
        3: st.sampled_from((0, 1, 2, 3, 4, 5, 6, 7, 0x10, 0x20, 0x23, 0x80, 0x9A)),
    }
    choice = draw(st.sampled_from(("field", "seq", "length", "id", "octet", "cut", "grow")))
    if choice == "field":
        at = draw(st.sampled_from(tuple(fields)))
        frame[at] = draw(fields[at])
    elif choice == "seq":
        frame[4:8] = draw(st.sampled_from((b"\0\0\0\0", b"\0\0\0\1", b"\xff" * 4)))
    elif choice == "length":
        lengths = st.sampled_from((0, 1, 3, 7, 9, 640, 641, 650, 4096, 4097, 65536, 65537, 2**62))
        frame[8:16] = draw(lengths).to_bytes(8)
    elif choice == "id":
        frame[16:32] = draw(st.sampled_from((bytes(16), b"\xff" * 16, b"\1" * 16)))
    elif choice == "octet":
        at = draw(st.integers(0, len(frame) - 1))
        frame[at] ^= draw(st.integers(1, 255))
    else:
        frame = frame[:-1] if choice == "cut" and len(frame) > 32 else frame + b"\0"
        frame[8:16] = (len(frame) - 32).to_bytes(8)
    return bytes(frame)
