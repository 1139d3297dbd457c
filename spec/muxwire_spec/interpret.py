"""Read a frame with the specification itself: the oracle for everything generated.

It runs the construct layouts of `frames` and walks `CHECKS` step by step. It is slow and plain on
purpose: it shares no code with the generated codec, so the two can be held against each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from muxwire_spec import callhome, profiles
from muxwire_spec import frames as f
from muxwire_spec import registries as r
from muxwire_spec.model import Breach, FrameKind, Scope
from muxwire_spec.vocabulary import Broken, Layout

_LAYOUTS: dict[str, Layout] = {layout.title: layout for layout in (*f.LAYOUTS, *callhome.LAYOUTS)}
WMX = "WMX/1"
WCH = callhome.NAME
_FRAMES = {WMX: f.FRAMES, WCH: callhome.FRAMES}
_SENDER = {
    (WMX, "worker"): "client",
    (WMX, "client"): "worker",
    (WCH, "worker"): "router",
    (WCH, "router"): "worker",
}
_BREACHES: dict[str, Breach | None] = {check.step: check.breach for check in f.CHECKS}
_CONNECTION_ID = bytes(16)
_INVALID_ID = b"\xff" * 16
_RANGE = Breach(code="SETTINGS_ERROR", scope=Scope.CONNECTION, requirement="SET-001")
_REPEATED = Breach(code="SETTINGS_ERROR", scope=Scope.CONNECTION, requirement="SET-002")
_LIMIT = Breach(code="FLOW_CONTROL_ERROR", scope=Scope.CONNECTION, requirement="FLW-003")


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """What a receiver is and has announced: all that the checks of one frame depend on."""

    role: str = "worker"
    protocol: str = WMX
    first: bool = False
    max_frame_size: int = r.setting("MAX_FRAME_SIZE").recommended
    max_metadata_size: int = r.setting("MAX_METADATA_SIZE").recommended


def receiver_of(protocol: str, role: str, *, first: bool = False) -> Receiver:
    """Return a receiver that has announced the recommended values, or has those of WCH/1."""
    if protocol == WMX:
        return Receiver(role=role, first=first)
    return Receiver(
        role=role,
        protocol=protocol,
        max_frame_size=callhome.MAX_FRAME_SIZE,
        max_metadata_size=callhome.MAX_METADATA_SIZE,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A broken rule: the step that found it, the field, and what is wrong there."""

    step: str
    field: str
    breach: Breach
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the specification says about the octets at the start of some data.

    `header` is None when fewer than 32 octets are there. `kind` is None for an ignorable
    extension and for a frame that cannot be told. `payload` is None until the frame is complete
    or when it is faulty. `size` is the length of the whole frame, as declared.
    """

    header: dict[str, Any] | None
    kind: FrameKind | None
    payload: dict[str, Any] | None
    size: int
    complete: bool
    fault: Fault | None


def read_frame(data: bytes, receiver: Receiver) -> Reading:
    """Read the frame at the start of `data` as `receiver` has to."""
    if len(data) < f.HEADER_SIZE:
        fault = None
        if data and data[0] != f.MARKER:
            fault = _fault("marker", "marker", f"{data[0]:#04x} is not {f.MARKER:#04x}")
        return Reading(
            header=None, kind=None, payload=None, size=f.HEADER_SIZE, complete=False, fault=fault
        )
    header = dict(f.HEADER.parse(data[: f.HEADER_SIZE]))
    size = f.HEADER_SIZE + header["payload_length"]
    kind = kind_of(header, receiver.protocol)
    for step, check in _STEPS:
        found = check(header, kind, receiver)
        if found is not None:
            return Reading(
                header=header,
                kind=kind,
                payload=None,
                size=size,
                complete=len(data) >= size,
                fault=_fault(step, *found),
            )
    if len(data) < size:
        return Reading(
            header=header, kind=kind, payload=None, size=size, complete=False, fault=None
        )
    payload, fault = _read_payload(header, kind, data[f.HEADER_SIZE : size], receiver)
    return Reading(header=header, kind=kind, payload=payload, size=size, complete=True, fault=fault)


def kind_of(header: dict[str, Any], protocol: str = WMX) -> FrameKind | None:
    """Return the kind of frame that a header announces, or None when it has no kind."""
    for kind in _FRAMES[protocol]:
        if header["type"] != r.FRAME_TYPES.value(kind.type):
            continue
        if kind.subtype is None or header["subtype"] == _subtype(kind):
            return kind
    return None


def payload_layout(header: dict[str, Any], kind: FrameKind) -> Layout:
    """Return the layout of the payload, which the flags select."""
    for flag, name in kind.payloads:
        if not flag or header["flags"] & r.FLAGS.value(flag):
            return _LAYOUTS[name]
    raise LookupError(f"{kind.name} has no payload for flags {header['flags']:#04x}")


def _subtype(kind: FrameKind) -> int:
    registry = r.CONTROL_SUBTYPES if kind.type == "CONTROL" else r.HEARTBEAT_SUBTYPES
    return registry.value(kind.name)


def _read_payload(
    header: dict[str, Any], kind: FrameKind | None, octets: bytes, receiver: Receiver
) -> tuple[dict[str, Any] | None, Fault | None]:
    if kind is None:
        return {"data": octets}, None
    try:
        value = payload_layout(header, kind).read(
            octets, MAX_METADATA_SIZE=receiver.max_metadata_size
        )
    except Broken as broken:
        return None, Fault(
            step="payload", field=broken.field, breach=broken.breach, text=broken.text
        )
    fault = _content(kind, value)
    return (None if fault else dict(value)), fault


def _content(kind: FrameKind, payload: dict[str, Any]) -> Fault | None:
    """Check the values that are right or wrong whatever the state of the connection."""
    if kind.name == "WINDOW_UPDATE" and payload["limit"] > profiles.MAX_LIMIT:
        text = f"{payload['limit']:,} is 2^63 or more"
        return Fault(step="payload", field="limit", breach=_LIMIT, text=text)
    if kind.name == "SETTINGS":
        return _settings(payload["settings"])
    return None


def _settings(pairs: list[dict[str, int]]) -> Fault | None:
    rules = {setting.value: setting for setting in r.SETTINGS}
    seen: set[int] = set()
    for index, pair in enumerate(pairs):
        where = f"settings[{index}]"
        if pair["id"] in seen:
            text = f"{pair['id']:#06x} is repeated"
            return Fault(step="payload", field=f"{where}.id", breach=_REPEATED, text=text)
        seen.add(pair["id"])
        rule = rules.get(pair["id"])
        if rule is not None and not rule.minimum <= pair["value"] <= rule.maximum:
            text = f"{pair['value']:,}, {rule.name} is {rule.minimum:,} to {rule.maximum:,}"
            return Fault(step="payload", field=f"{where}.value", breach=_RANGE, text=text)
    return None


def _fault(step: str, field: str, text: str) -> Fault:
    breach = _BREACHES[step]
    if breach is None:
        raise LookupError(f"step {step} has no error of its own")
    return Fault(step=step, field=field, breach=breach, text=text)


_Found = tuple[str, str] | None
_Header = dict[str, Any]


def _marker(h: _Header, _kind: FrameKind | None, _receiver: Receiver) -> _Found:
    if h["marker"] != f.MARKER:
        return "marker", f"{h['marker']:#04x} is not {f.MARKER:#04x}"
    return None


def _first(_h: _Header, kind: FrameKind | None, receiver: Receiver) -> _Found:
    allowed = ("SETTINGS",) if receiver.role == "worker" else ("SETTINGS", "GOAWAY")
    if receiver.first and (kind is None or kind.name not in allowed):
        return "type", f"the first frame has to be {' or '.join(allowed)}"
    return None


def _type(h: _Header, _kind: FrameKind | None, receiver: Receiver) -> _Found:
    known = {r.FRAME_TYPES.value(kind.type) for kind in _FRAMES[receiver.protocol]}
    if h["type"] not in known and not h["type"] & f.IGNORABLE:
        return "type", f"{h['type']:#04x} is unknown and critical"
    return None


def _wrong_direction(kind: FrameKind | None, receiver: Receiver) -> bool:
    sender = _SENDER[receiver.protocol, receiver.role]
    return kind is not None and sender not in kind.senders


def _direction(_h: _Header, kind: FrameKind | None, receiver: Receiver) -> _Found:
    if kind is not None and kind.subtype is None and _wrong_direction(kind, receiver):
        return "type", f"a {receiver.role} never receives {kind.name}"
    return None


def _length(h: _Header, _kind: FrameKind | None, receiver: Receiver) -> _Found:
    control = h["type"] in (r.FRAME_TYPES.value("CONTROL"), r.FRAME_TYPES.value("HEARTBEAT"))
    limit = f.CONTROL_PAYLOAD_LIMIT if control else receiver.max_frame_size
    if h["payload_length"] > limit:
        return "payload_length", f"{h['payload_length']} octets, the limit is {limit}"
    return None


def _flags(h: _Header, kind: FrameKind | None, _receiver: Receiver) -> _Found:
    if h["type"] & f.IGNORABLE:
        return None
    extra = h["flags"] & f.FLAG_MASK & ~(kind.flags if kind else 0)
    return ("flags", f"{extra:#04x} is not allowed on this frame") if extra else None


def _control_subtype(h: _Header, kind: FrameKind | None, _receiver: Receiver) -> _Found:
    control = h["type"] == r.FRAME_TYPES.value("CONTROL")
    if control and kind is None and not h["subtype"] & f.IGNORABLE:
        return "subtype", f"{h['subtype']:#04x} is unknown and critical"
    return None


def _heartbeat_subtype(h: _Header, kind: FrameKind | None, _receiver: Receiver) -> _Found:
    if h["type"] == r.FRAME_TYPES.value("HEARTBEAT") and kind is None:
        return "subtype", f"{h['subtype']:#04x} is unknown"
    return None


def _sender(_h: _Header, kind: FrameKind | None, receiver: Receiver) -> _Found:
    if _wrong_direction(kind, receiver):
        return "subtype", f"a {receiver.role} never receives {kind.name if kind else ''}"
    return None


def _zero(h: _Header, kind: FrameKind | None, _receiver: Receiver) -> _Found:
    if h["type"] & f.IGNORABLE:
        return None
    if kind is not None and kind.subtype is None:
        return ("subtype", f"{h['subtype']} is not 0") if h["subtype"] else None
    return ("seq", f"{h['seq']} is not 0") if h["seq"] else None


def _id(h: _Header, kind: FrameKind | None, _receiver: Receiver) -> _Found:
    if kind is None:
        return None
    if h["request_id"] == _INVALID_ID:
        return "request_id", "all ones is no id"
    is_connection = h["request_id"] == _CONNECTION_ID
    if kind.scope == "connection" and not is_connection:
        return "request_id", f"{kind.name} concerns the connection, its id is zero"
    if kind.scope == "request" and is_connection:
        return "request_id", f"{kind.name} concerns a request, its id is not zero"
    return None


def _size(h: _Header, kind: FrameKind | None, _receiver: Receiver) -> _Found:
    if kind is None or kind.subtype is None:
        return None
    length = h["payload_length"]
    if kind.length is not None and length != kind.length:
        return "payload_length", f"{length} octets, {kind.name} has {kind.length}"
    if isinstance(kind.limit, int) and length > kind.limit:
        return "payload_length", f"{length} octets, {kind.name} has at most {kind.limit}"
    if length % kind.multiple:
        return "payload_length", f"{length} octets are no multiple of {kind.multiple}"
    return None


def _has(h: _Header, flag: str) -> bool:
    return bool(h["flags"] & r.FLAGS.value(flag))


def _is(kind: FrameKind | None, name: str) -> bool:
    return kind is not None and kind.name == name


def _error_size(h: _Header, kind: FrameKind | None, _receiver: Receiver) -> _Found:
    if _is(kind, "RESPONSE") and _has(h, "ERROR") and h["payload_length"] > f.MAX_ERROR_BODY:
        return "payload_length", f"{h['payload_length']} octets of error body"
    return None


def _end_more(h: _Header, kind: FrameKind | None, _receiver: Receiver) -> _Found:
    if kind is not None and kind.subtype is None and _has(h, "END_STREAM") and _has(h, "MORE"):
        return "flags", "END_STREAM and MORE are both set"
    return None


def _open_meta(h: _Header, kind: FrameKind | None, _receiver: Receiver) -> _Found:
    if _is(kind, "REQUEST") and _has(h, "META") != (h["seq"] == 0):
        return "flags", f"META is {'set' if _has(h, 'META') else 'missing'} at seq {h['seq']}"
    return None


def _error_alone(h: _Header, kind: FrameKind | None, _receiver: Receiver) -> _Found:
    if not _is(kind, "RESPONSE") or not _has(h, "ERROR"):
        return None
    if not _has(h, "END_STREAM") or _has(h, "META"):
        return "flags", "ERROR stands with END_STREAM and nothing else"
    return None


def _response_meta(h: _Header, kind: FrameKind | None, _receiver: Receiver) -> _Found:
    if _is(kind, "RESPONSE") and _has(h, "META") and h["seq"] and not _has(h, "END_STREAM"):
        return "flags", f"META at seq {h['seq']} without END_STREAM"
    return None


_STEPS: tuple[tuple[str, Callable[[_Header, FrameKind | None, Receiver], _Found]], ...] = (
    ("marker", _marker),
    ("first", _first),
    ("type", _type),
    ("direction", _direction),
    ("length", _length),
    ("flags", _flags),
    ("subtype", _control_subtype),
    ("heartbeat", _heartbeat_subtype),
    ("sender", _sender),
    ("zero", _zero),
    ("id", _id),
    ("size", _size),
    ("error-size", _error_size),
    ("end-more", _end_more),
    ("open-meta", _open_meta),
    ("error-alone", _error_alone),
    ("response-meta", _response_meta),
)
"""The steps of CHECKS that one header decides, in their order."""
