"""Emit `muxwire/_generated/codec.py`: the incremental decoder and the payload codecs.

Layouts become straight-line code: neighbouring fields of fixed size share one `struct` call, and
every length is compared with what is there before it is used. The header checks are one lookup
for frames that are right; only a frame that is wrong walks the checks in their order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from muxwire_spec import model as ir
from muxwire_spec.emit.source import constants, indent, integer, module

PATH = "reference/muxwire/_generated/codec.py"

_FORMATS = {8: "B", 16: "H", 32: "I", 64: "Q"}
_IMPORTS = """
import re
from collections.abc import Iterator, Sequence
from struct import Struct
from typing import NamedTuple, TypeAlias

from muxwire._generated.registries import ErrorCode
from muxwire.errors import ProtocolViolation
"""


def emit(spec: ir.Spec) -> dict[str, bytes]:
    """Return the codec module."""
    shared = _Shared()
    code = [
        _preface(spec, shared),
        _decoder(spec, shared),
        *(_frame_encoder(spec, kind, shared) for kind in _all_kinds(spec)),
        *(_codec_of(spec, layout, shared) for layout in _payload_layouts(spec)),
    ]
    blocks = [_IMPORTS, _numbers(spec), _tables(spec), *shared.source(), *code]
    docstring = "The codec of WMX/1 and WCH/1: octets to frames and fields, and back."
    return {PATH: module(docstring, *blocks)}


@dataclass
class _Shared:
    """Module-level names that the code refers to, made when first used."""

    structs: dict[str, str] = field(default_factory=dict)
    breaches: dict[str, str] = field(default_factory=dict)
    patterns: dict[str, str] = field(default_factory=dict)

    def struct(self, codes: str) -> str:
        return self.structs.setdefault(codes, f"_{codes.upper()}")

    def pattern(self, name: str, pattern: str) -> str:
        constant = f"_{name.upper()}"
        if self.patterns.setdefault(constant, pattern) != pattern:
            raise ValueError(f"two patterns for {name}")
        return constant

    def refuse(self, breach: ir.Breach, text: str) -> str:
        name = f"_{breach.requirement.replace('-', '_')}_{breach.code}"
        self.breaches[name] = f'(ErrorCode.{breach.code}, "{breach.scope}", "{breach.requirement}")'
        return f"raise ProtocolViolation(*{name}, {text})"

    def source(self) -> list[str]:
        structs = [(name, f'Struct(">{codes}")') for codes, name in self.structs.items()]
        patterns = [(name, f're.compile(rb"{p}").fullmatch') for name, p in self.patterns.items()]
        return [
            constants(structs),
            constants(sorted(self.breaches.items())),
            constants(patterns),
            _IS_UTF8,
        ]


_IS_UTF8 = """
def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True
"""


def _all_kinds(spec: ir.Spec) -> list[ir.FrameKind]:
    """Return the kinds of both protocols, each once."""
    kinds = {kind.name: kind for kind in (*spec.callhome.frames, *spec.frames)}
    names = dict.fromkeys(kind.name for kind in (*spec.frames, *spec.callhome.frames))
    return [kinds[name] for name in names]


def _payload_layouts(spec: ir.Spec) -> list[ir.Layout]:
    """Return the layouts that have something to decode beyond the octets themselves."""
    names = [name for kind in _all_kinds(spec) for _, name in kind.payloads]
    layouts = [spec.layout(name) for name in dict.fromkeys(names)]
    return [
        layout
        for layout in layouts
        if layout.fields and not isinstance(layout.fields[0].node, ir.Rest | ir.Octets)
    ]


# --- numbers and tables -----------------------------------------------------------------------


def _numbers(spec: ir.Spec) -> str:
    pairs = [
        ("MAGIC", f'bytes.fromhex("{spec.magic.hex()}")'),
        ("MARKER", f"{spec.marker:#04x}"),
        ("HEADER_SIZE", str(spec.header_size)),
        ("PREFACE_SIZE", str(spec.preface_size)),
        ("VERSION", str(spec.version)),
        ("WCH_MAGIC", f'bytes.fromhex("{spec.callhome.magic.hex()}")'),
    ]
    kinds = [(kind.name, str(index)) for index, kind in enumerate(_all_kinds(spec))]
    kinds.append(("EXTENSION", str(len(kinds))))
    names = "\n".join(f'    "{name}",' for name, _ in kinds)
    return "\n\n".join(
        (
            constants(pairs),
            "# Kinds of frame\n" + constants(kinds),
            f"KIND_NAMES = (\n{names}\n)",
            "# Roles of a receiver: those of WMX/1, and those of WCH/1\n"
            + constants([(name, str(index)) for index, (name, _) in enumerate(_ROLES)]),
            'CONNECTION_ID = bytes(16)\nINVALID_ID = b"\\xff" * 16',
            "Frame: TypeAlias = tuple[int, int, int, bytes, bytes]\n"
            '"""kind, flags (those of this version), seq, request_id, payload."""',
        )
    )


_ROLES = (
    ("WORKER", "client"),
    ("CLIENT", "worker"),
    ("WCH_WORKER", "router"),
    ("WCH_ROUTER", "worker"),
)
"""The roles of a receiver, two for each protocol, and who sends what each of them reads."""


def _codes(spec: ir.Spec, kind: ir.FrameKind) -> tuple[int, int]:
    type_ = spec.registry("FRAME_TYPES").value(kind.type)
    if kind.subtype is None:
        return type_, 0
    return type_, spec.registry(f"{kind.type}_SUBTYPES").value(kind.subtype)


_ROLE = '''

class _Role(NamedTuple):
    """What a receiver reads: the types and kinds that it knows, and its one type of streams."""

    types: tuple[int, ...]
    kinds: _Kinds
    first_is_settings: bool
    stream_kind: int
    stream_type: int  # -1: none
    stream_flags: tuple[tuple[bool, ...], ...]

'''


def _tables(spec: ir.Spec) -> str:
    """Return the lookup tables of kinds and of flags, and what each role reads."""
    flags = spec.registry("FLAGS")
    lines = [
        "# (type << 8 | subtype) of what has a subtype: kind, scope, receivers, length or None,",
        "# largest length, divisor of the length. Scope: 0 connection, 1 request, 2 either.",
        "_Kinds: TypeAlias = dict[int, tuple[int, int, tuple[int, ...], int | None, int, int]]",
        *_kinds(spec, "_KINDS", spec.frames, _ROLES[:2], 0),
        *_kinds(spec, "_WCH_KINDS", spec.callhome.frames, _ROLES[2:], 2),
        "",
        "# May these flags stand on this frame? By kind, then seq above 0, then flags.",
    ]
    for kind in spec.frames:
        if kind.subtype is None:
            first, later = (
                "".join("1" if _legal(flags, kind, bits, first) else "0" for bits in range(16))
                for first in (True, False)
            )
            lines.append(
                f'_{kind.name}_FLAGS = tuple(tuple(c == "1" for c in row) for row in '
                f'("{first}", "{later}"))'
            )
    lines += [
        _ROLE,
        "_ROLES = (",
        *(f"    _Role({_role(spec, index, sender)})," for index, (_, sender) in enumerate(_ROLES)),
        ")",
    ]
    return "\n".join(lines)


def _kinds(
    spec: ir.Spec,
    name: str,
    frames: tuple[ir.FrameKind, ...],
    roles: tuple[tuple[str, str], ...],
    start: int,
) -> list[str]:
    """Return the table of a protocol's kinds with a subtype; its roles count from `start`."""
    lines = [f"{name}: _Kinds = {{"]
    for kind in frames:
        if kind.subtype is None:
            continue
        type_, subtype = _codes(spec, kind)
        scope = ("connection", "request", "either").index(kind.scope)
        receivers = [start + i for i, (_, sender) in enumerate(roles) if sender in kind.senders]
        inside = ", ".join(str(r) for r in receivers) + ("," if len(receivers) == 1 else "")
        lines.append(
            f"    {type_ << 8 | subtype:#06x}: ({kind.name}, {scope}, ({inside}), {kind.length}, "
            f"{kind.limit}, {kind.multiple}),"
        )
    return [*lines, "}"]


def _role(spec: ir.Spec, index: int, sender: str) -> str:
    """Return what the decoder of a role has to know, as the items of a tuple."""
    wmx = index < 2
    frames = spec.frames if wmx else spec.callhome.frames
    types = sorted({_codes(spec, kind)[0] for kind in frames})
    known = "(" + ", ".join(f"{type_:#04x}" for type_ in types) + ")"
    streams = [kind for kind in frames if kind.subtype is None and sender in kind.senders]
    read = [(k.name, f"{_codes(spec, k)[0]:#04x}", f"_{k.name}_FLAGS") for k in streams]
    kind, type_, flags = read[0] if read else ("EXTENSION", "-1", "_RESPONSE_FLAGS")
    return f"{known}, {'_KINDS' if wmx else '_WCH_KINDS'}, {wmx}, {kind}, {type_}, {flags}"


def _legal(flags: ir.Registry, kind: ir.FrameKind, bits: int, first: bool) -> bool:
    """Decide FRM-006 and TYP-002 to TYP-005 for one combination of flags."""
    if bits & ~kind.flags:
        return False
    has = {entry.name: bool(bits & entry.value) for entry in flags.entries}
    if has["END_STREAM"] and has["MORE"]:
        return False
    if kind.name == "REQUEST":
        return has["META"] == first
    if has["ERROR"]:
        return has["END_STREAM"] and not has["META"]
    return not has["META"] or first or has["END_STREAM"]


_PREFACE = '''
class Preface(NamedTuple):
    """A preface without its magic and its reserved octets."""

    ver_hi: int
    ver_lo: int
    header_size: int


def encode_preface(ver_hi: int, ver_lo: int) -> bytes:
    """Return a preface that offers, or selects, the versions ver_lo to ver_hi."""
    return MAGIC + bytes((ver_hi, ver_lo, HEADER_SIZE, 0, 0, 0, 0, 0))


def decode_preface(data: bytes) -> Preface:
    """Read a preface of PREFACE_SIZE octets.

    Raises:
        ProtocolViolation: HSK-002, the octets are not a preface.
    """
    if len(data) != PREFACE_SIZE or data[:8] != MAGIC:
        @REFUSE@
    return Preface(data[8], data[9], data[10])


class WchPreface(NamedTuple):
    """A preface of WCH/1 without its magic and its reserved octet."""

    ver_hi: int
    ver_lo: int
    header_size: int
    idle_timeout_ms: int


def encode_wch_preface(ver_hi: int, ver_lo: int, idle_timeout_ms: int) -> bytes:
    """Return a preface of WCH/1; an idle timeout of 0 stands for the usual one."""
    head = bytes((ver_hi, ver_lo, HEADER_SIZE, 0))
    return WCH_MAGIC + head + idle_timeout_ms.to_bytes(4, "big")


def decode_wch_preface(data: bytes) -> WchPreface:
    """Read a preface of WCH/1 of PREFACE_SIZE octets.

    Raises:
        ProtocolViolation: P0-002, the octets are not a preface.
    """
    if len(data) != PREFACE_SIZE or data[:8] != WCH_MAGIC:
        @WCH_REFUSE@
    return WchPreface(data[8], data[9], data[10], int.from_bytes(data[12:], "big"))
'''


def _preface(spec: ir.Spec, shared: _Shared) -> str:
    wmx = shared.refuse(spec.layout("PREFACE").malformed, '"not a preface of WMX"')
    wch = shared.refuse(spec.layout(spec.callhome.preface).malformed, '"not a preface of WCH"')
    return _PREFACE.replace("@REFUSE@", wmx).replace("@WCH_REFUSE@", wch)


# --- the frame decoder ------------------------------------------------------------------------


_DECODER = '''
class FrameDecoder:
    """Turn octets into frames, whatever the pieces they arrive in (FRM-001, FRM-011).

    It makes every check that a header alone decides, in the order of the specification, and
    refuses a frame before its payload has arrived. Memory grows with the octets received, never
    with a declared length. Of a request id it knows all zeros and all ones only (FRM-009).

    Args:
        receiver: WORKER, CLIENT, WCH_WORKER or WCH_ROUTER: whose input this is.
        max_frame_size: The MAX_FRAME_SIZE that the receiver announced, or that of WCH/1.
    """

    __slots__ = (
        "_at",
        "_buffer",
        "_first",
        "_flags_table",
        "_kinds",
        "_max_frame_size",
        "_pending",
        "_receiver",
        "_stream_kind",
        "_stream_type",
        "_types",
    )

    def __init__(self, receiver: int, max_frame_size: int) -> None:
        self._receiver = receiver
        self._max_frame_size = max_frame_size
        role = _ROLES[receiver]
        self._types = role.types
        self._kinds = role.kinds
        self._first = role.first_is_settings
        self._stream_kind = role.stream_kind
        self._stream_type = role.stream_type
        self._flags_table = role.stream_flags
        self._buffer: bytes | bytearray = b""
        self._at = 0
        self._pending: tuple[int, int, int, bytes, int] | None = None

    @property
    def mid_frame(self) -> bool:
        """Whether a frame has begun and is not complete (FRM-013)."""
        return self._pending is not None or len(self._buffer) > self._at

    @property
    def buffered(self) -> int:
        """Octets held for a frame that is not complete."""
        return len(self._buffer) - self._at

    def feed(self, data: bytes) -> None:
        """Take received octets. Call `frames` after it."""
        if self._at == len(self._buffer):
            self._buffer = data
        elif isinstance(self._buffer, bytearray):
            del self._buffer[: self._at]
            self._buffer += data
        else:
            joined = bytearray(memoryview(self._buffer)[self._at :])
            joined += data
            self._buffer = joined
        self._at = 0

    def frames(self) -> Iterator[Frame]:
        """Yield the complete frames, in order; exhaust it before the next `feed`.

        Raises:
            ProtocolViolation: a header breaks a rule. The frames before it have been yielded;
                the decoder is of no use after it.
        """
        buffer: bytes = self._buffer  # type: ignore[assignment]
        size = len(buffer)
        whole = isinstance(self._buffer, bytes)
        unpack = @HEADER@.unpack_from
        flags_table = self._flags_table
        stream_type = self._stream_type
        stream_kind = self._stream_kind
        max_frame_size = self._max_frame_size
        while True:
            at = self._at
            if self._pending is not None:
                kind, flags, seq, request_id, length = self._pending
            elif size - at >= @HEADER_SIZE@:
                marker, type_, flags, subtype, seq, length, request_id = unpack(buffer, at)
                flags_now = flags & @FLAG_MASK@
                if (
                    type_ == stream_type
                    and marker == @MARKER@
                    and length <= max_frame_size
                    and not subtype
                    and flags_table[seq > 0][flags_now]
                    and not self._first
                    and request_id != CONNECTION_ID
                    and request_id != INVALID_ID
                    and (not flags_now & @ERROR@ or length <= @MAX_ERROR_BODY@)
                ):
                    kind = stream_kind
                else:
                    kind = self._check(marker, type_, flags, subtype, seq, length, request_id)
                    self._first = False
                flags = flags_now
                at += @HEADER_SIZE@
            else:
                if size == at:
                    self._buffer = b""
                    self._at = 0
                elif buffer[at] != @MARKER@:
                    @@marker@@f"the marker is {buffer[at]:#04x}"@@
                return
            end = at + length
            if end > size:
                self._at = at
                self._pending = (kind, flags, seq, request_id, length)
                return
            self._pending = None
            self._at = end
            payload = buffer[at:end]
            yield kind, flags, seq, request_id, payload if whole else bytes(payload)

    def _check(
        self,
        marker: int,
        type_: int,
        flags: int,
        subtype: int,
        seq: int,
        length: int,
        request_id: bytes,
    ) -> int:
        """Walk the checks of a header in their order and return the kind of the frame."""
        if marker != @MARKER@:
            @@marker@@f"the marker is {marker:#04x}"@@
        if self._first and not (
            type_ == @CONTROL_TYPE@
            and (
                subtype == @SETTINGS_SUBTYPE@
                or (subtype == @GOAWAY_SUBTYPE@ and self._receiver == CLIENT)
            )
        ):
            @@first@@"the first frame is not SETTINGS"@@
        if type_ & @IGNORABLE@:
            if length > self._max_frame_size:
                @@length@@f"{length} octets"@@
            return EXTENSION
        if type_ not in self._types:
            @@type@@f"type {type_:#04x} is unknown"@@
        stream = type_ == @REQUEST_TYPE@ or type_ == @RESPONSE_TYPE@
        if stream and type_ != self._stream_type:
            @@direction@@"this side never receives that type"@@
        if length > (self._max_frame_size if stream else @CONTROL_PAYLOAD_LIMIT@):
            @@length@@f"{length} octets"@@
        if flags & @FLAG_MASK@ & ~(@ALLOWED@):
            @@flags@@f"flags {flags:#04x}"@@
        if stream:
            self._check_stream(type_, flags, subtype, seq, length, request_id)
            return self._stream_kind
        found = self._kinds.get(type_ << 8 | subtype)
        if found is None:
            if type_ != @CONTROL_TYPE@:
                @@heartbeat@@f"Heartbeat subtype {subtype:#04x} is unknown"@@
            if not subtype & @IGNORABLE@:
                @@subtype@@f"Control subtype {subtype:#04x} is unknown"@@
            if seq:
                @@zero@@f"seq is {seq}"@@
            return EXTENSION
        kind, scope, receivers, exact, largest, divisor = found
        if self._receiver not in receivers:
            @@sender@@f"this side never receives {KIND_NAMES[kind]}"@@
        if seq:
            @@zero@@f"seq is {seq}"@@
        if request_id == INVALID_ID:
            @@id@@"the id is all ones"@@
        if scope != 2 and (request_id == CONNECTION_ID) != (scope == 0):
            @@id@@"the id does not fit the frame"@@
        if length > largest or length % divisor or (exact is not None and length != exact):
            @@size@@f"{KIND_NAMES[kind]} with {length} octets"@@
        return kind

    def _check_stream(
        self, type_: int, flags: int, subtype: int, seq: int, length: int, request_id: bytes
    ) -> None:
        """Walk the checks of REQUEST and RESPONSE from the subtype on."""
        if subtype:
            @@zero@@f"subtype is {subtype}"@@
        if request_id in (CONNECTION_ID, INVALID_ID):
            @@id@@"the id is all zeros or all ones"@@
        if flags & @ERROR@ and length > @MAX_ERROR_BODY@:
            @@error_size@@f"{length} octets"@@
        if flags & @END_STREAM@ and flags & @MORE@:
            @@end_more@@f"flags {flags:#04x}"@@
        if type_ == @REQUEST_TYPE@:
            if (seq == 0) != bool(flags & @META@):
                @@open_meta@@f"flags {flags:#04x} with seq {seq}"@@
            return
        if flags & @ERROR@ and (not flags & @END_STREAM@ or flags & @META@):
            @@error_alone@@f"flags {flags:#04x}"@@
        if flags & @META@ and seq and not flags & @END_STREAM@:
            @@response_meta@@f"flags {flags:#04x} with seq {seq}"@@
'''


def _decoder(spec: ir.Spec, shared: _Shared) -> str:
    """Fill the decoder's template with the numbers and errors of the specification."""
    types = spec.registry("FRAME_TYPES")
    control = spec.registry("CONTROL_SUBTYPES")
    flags = {f"@{entry.name}@": f"{entry.value:#04x}" for entry in spec.registry("FLAGS").entries}
    by_type = {types.value(kind.type): kind.flags for kind in spec.frames if kind.subtype is None}
    allowed = " else ".join(
        [f"{mask:#04x} if type_ == {type_:#04x}" for type_, mask in by_type.items()] + ["0"]
    )
    numbers = {
        "@REQUEST_TYPE@": f"{types.value('REQUEST'):#04x}",
        "@RESPONSE_TYPE@": f"{types.value('RESPONSE'):#04x}",
        "@CONTROL_TYPE@": f"{types.value('CONTROL'):#04x}",
        "@SETTINGS_SUBTYPE@": f"{control.value('SETTINGS'):#04x}",
        "@GOAWAY_SUBTYPE@": f"{control.value('GOAWAY'):#04x}",
        "@IGNORABLE@": "0x80",
        "@FLAG_MASK@": "0x0F",
        "@MARKER@": f"{spec.marker:#04x}",
        "@HEADER_SIZE@": str(spec.header_size),
        "@ALLOWED@": allowed,
        "@CONTROL_PAYLOAD_LIMIT@": integer(spec.constant("CONTROL_PAYLOAD_LIMIT")),
        "@MAX_ERROR_BODY@": integer(spec.constant("MAX_ERROR_BODY")),
    }
    breaches = {check.step.replace("-", "_"): check.breach for check in spec.checks}

    def refusal(match: re.Match[str]) -> str:
        breach = breaches[match[1]]
        if breach is None:
            raise ValueError(f"check {match[1]} has no error of its own")
        return shared.refuse(breach, match[2])

    source = re.sub("@@(.+?)@@(.+?)@@", refusal, _DECODER)
    for mark, text in (flags | numbers | {"@HEADER@": shared.struct("BBBBIQ16s")}).items():
        source = source.replace(mark, text)
    return source


# --- payload decoders -------------------------------------------------------------------------


@dataclass
class _Decode:
    """Builds the body of one payload decoder: reading first, then the checks of the content."""

    shared: _Shared
    malformed: ir.Breach
    lines: list[str] = field(default_factory=list)
    checks: list[str] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    level: int = 1

    def put(self, text: str) -> None:
        self.lines.append(indent(text, self.level))

    def short(self, name: str) -> str:
        return self.shared.refuse(self.malformed, f'"the octets end in {name}"')

    def layout(self, layout: ir.Layout, end: str, path: str) -> None:
        run: list[tuple[str, str, int]] = []
        for item in layout.fields:
            node = item.node
            name = item.name
            if isinstance(node, ir.Text | ir.Nested):
                run.append((f"{name}_length", _FORMATS[node.length.bits], node.length.bits // 8))
                self.flush(run, end, path + name)
                self.sized(node, name, end, path + name)
            elif isinstance(node, ir.Listed):
                self.flush(run, end, path + name)
                self.listed(node, name, end, path + name)
            elif isinstance(node, ir.Rest):
                self.flush(run, end, path + name)
                self.put(f"{name} = payload[at:{end}]")
            else:
                run.append(_fixed(name, node))
                self.content(node, name, path + name)
        self.flush(run, end, path + layout.fields[-1].name)
        if layout.trailing is ir.Trailing.REFUSE and not _open_ended(layout):
            self.put(f"if at != {end}:")
            text = '"octets are left over"'
            self.put(indent(self.shared.refuse(self.malformed, text), 1))

    def flush(self, run: list[tuple[str, str, int]], end: str, path: str) -> None:
        if not run:
            return
        size = sum(width for _, _, width in run)
        struct = self.shared.struct("".join(code for _, code, _ in run))
        names = ", ".join(name for name, _, _ in run)
        self.put(f"if {end} - at < {size}:")
        self.put(indent(self.short(path), 1))
        if len(run) == 1:
            self.put(f"{names}: int = {struct}.unpack_from(payload, at)[0]")
        else:
            self.put(f"{names} = {struct}.unpack_from(payload, at)")
        self.put(f"at += {size}")
        run.clear()

    def sized(self, node: ir.Text | ir.Nested, name: str, end: str, path: str) -> None:
        if isinstance(node, ir.Nested):
            limit = f"max_{node.limit.lower().removeprefix('max_')}"
            self.limits.append(limit)
            self.put(f"if {name}_length > {limit}:")
            text = f'f"{name}_length is {{{name}_length}}, {node.limit} is {{{limit}}}"'
            self.put(indent(self.shared.refuse(self.malformed, text), 1))
        self.put(f"{name}_end = at + {name}_length")
        self.put(f"if {name}_end > {end}:")
        self.put(indent(self.short(path), 1))
        if isinstance(node, ir.Nested):
            self.layout(node.body, f"{name}_end", f"{path}.")
            self.put(f"at = {name}_end  # PAY-003: whatever is left of it")
        else:
            self.put(f"{name} = payload[at:{name}_end]")
            self.content(node, name, path)
            self.put(f"at = {name}_end")

    def listed(self, node: ir.Listed, name: str, end: str, path: str) -> None:
        names = [item.name for item in node.item.fields]
        if node.count is None:
            codes = "".join(_fixed(item.name, item.node)[1] for item in node.item.fields)
            size = sum(_fixed(item.name, item.node)[2] for item in node.item.fields)
            self.put(f"if ({end} - at) % {size}:")
            self.put(indent(self.short(path), 1))
            self.put(f"{name} = list({self.shared.struct(codes)}.iter_unpack(payload[at:{end}]))")
            return
        checks, self.checks = self.checks, []
        self.put(f"{name}: list[tuple[bytes, bytes]] = []")
        self.put(f"for _ in range({node.count}):")
        self.level += 1
        self.layout(node.item, end, f"{path}.")
        self.put(f"{name}.append(({', '.join(names)}))")
        self.level -= 1
        inner, self.checks = self.checks, checks
        if inner:
            self.checks.append(f"for {', '.join(names)} in {name}:")
            self.checks += [indent(check, 1) for check in inner]
        if node.breach is not None:
            if node.maximum is not None:
                self.checks.append(f"if len({name}) > {node.maximum}:")
                text = f'f"{{len({name})}} {name}, at most {node.maximum} are allowed"'
                self.checks.append(indent(self.shared.refuse(node.breach, text), 1))
            if node.unique is not None:
                index = names.index(node.unique)
                self.checks.append(
                    f"if len({name}) > 1 and len({{item[{index}] for item in {name}}}) "
                    f"!= len({name}):"
                )
                text = f'"a {node.unique} is repeated"'
                self.checks.append(indent(self.shared.refuse(node.breach, text), 1))

    def content(self, node: ir.Node, name: str, path: str) -> None:
        """Add the checks of a field's content, made when everything has been read."""
        if isinstance(node, ir.FlagSet) and node.breach is not None:
            mask = f"_{name.upper()}_EXCLUSIVE"
            self.checks.append(f"if {name} & {mask} == {mask}:")
            text = f'"{" and ".join(node.exclusive)} are both set"'
            self.checks.append(indent(self.shared.refuse(node.breach, text), 1))
        if isinstance(node, ir.Text) and node.breach is not None:
            condition = f"{node.minimum} <= len({name}) <= {node.maximum}"
            if not node.minimum:
                condition = f"len({name}) <= {node.maximum}"
            if node.pattern is not None:
                condition += f" and {self.shared.pattern(name, node.pattern)}({name})"
            if node.utf8:
                condition += f" and ({name}.isascii() or _is_utf8({name}))"
            self.checks.append(f"if not ({condition}):")
            text = f'f"{path} of {{len({name})}} octets"'
            self.checks.append(indent(self.shared.refuse(node.breach, text), 1))


def _open_ended(layout: ir.Layout) -> bool:
    last = layout.fields[-1].node
    return isinstance(last, ir.Rest) or (isinstance(last, ir.Listed) and last.count is None)


def _fixed(name: str, node: ir.Node) -> tuple[str, str, int]:
    match node:
        case ir.UInt(bits=bits):
            return name, _FORMATS[bits], bits // 8
        case ir.Coded(base=base) | ir.FlagSet(base=base) | ir.Counted(base=base):
            return name, _FORMATS[base.bits], base.bits // 8
        case ir.Octets(size=size):
            return name, f"{size}s", size
    raise TypeError(f"{name}: {node!r} has no place in a payload")


def _results(layout: ir.Layout) -> list[tuple[str, str]]:
    """Return the names and Python types of what a payload holds, nested fields included."""
    results: list[tuple[str, str]] = []
    for item in layout.fields:
        match item.node:
            case ir.Counted():
                continue
            case ir.Nested(body=body):
                results += _results(body)
            case ir.Listed(item=entry):
                types = ", ".join(type_ for _, type_ in _results(entry))
                results.append((item.name, f"list[tuple[{types}]]"))
            case ir.Text() | ir.Rest() | ir.Octets():
                results.append((item.name, "bytes"))
            case _:
                results.append((item.name, "int"))
    return results


def _codec_of(spec: ir.Spec, layout: ir.Layout, shared: _Shared) -> str:
    builder = _Decode(shared, layout.malformed)
    builder.layout(layout, "size", "")
    results = _results(layout)
    name = layout.name.lower().removesuffix("_payload")
    single = len(results) == 1 and results[0][1] == "int"
    tuple_name = "".join(word.title() for word in name.split("_"))
    returns = "int" if single else tuple_name
    values = ", ".join(result for result, _ in results)
    parameters = "".join(f", {limit}: int" for limit in builder.limits)
    masks = [
        (
            f"_{item.name.upper()}_EXCLUSIVE",
            f"{sum(spec.registry(item.node.registry).value(n) for n in item.node.exclusive):#06x}",
        )
        for item in layout.fields
        if isinstance(item.node, ir.FlagSet) and item.node.breach is not None
    ]
    parts = [constants(masks)] if masks else []
    if not single:
        fields = "\n".join(f"    {result}: {type_}" for result, type_ in results)
        parts.append(f'class {tuple_name}(NamedTuple):\n    """{layout.doc}."""\n\n{fields}')
    body = "\n".join(builder.lines + [indent(check, 1) for check in builder.checks])
    result = values if single else f"{tuple_name}({values})"
    parts.append(
        f"def decode_{name}(payload: bytes{parameters}) -> {returns}:\n"
        f'    """Read the {_sentence(layout.doc)}.\n\n'
        f"    Raises:\n        ProtocolViolation: the octets break a rule of this payload.\n"
        f'    """\n'
        f"    size = len(payload)\n    at = 0\n{body}\n    return {result}"
    )
    if encoder := _payload_encoder(layout, name, shared):
        parts.append(encoder)
    return "\n\n\n".join(parts)


def _sentence(doc: str) -> str:
    return doc[0].lower() + doc[1:]


# --- encoders ---------------------------------------------------------------------------------


@dataclass
class _Encode:
    """Builds the expression that packs a layout."""

    shared: _Shared
    lines: list[str] = field(default_factory=list)

    def layout(self, layout: ir.Layout) -> list[str]:
        """Return the expressions whose concatenation is the layout."""
        parts: list[str] = []
        run: list[tuple[str, str]] = []

        def flush() -> None:
            if run:
                struct = self.shared.struct("".join(code for _, code in run))
                parts.append(f"{struct}.pack({', '.join(name for name, _ in run)})")
                run.clear()

        for item in layout.fields:
            node, name = item.node, item.name
            match node:
                case ir.Text(length=length):
                    run.append((f"len({name})", _FORMATS[length.bits]))
                    flush()
                    parts.append(name)
                case ir.Nested(length=length, body=body):
                    inner = " + ".join(self.layout(body))
                    self.lines.append(f"{name} = {inner}")
                    run.append((f"len({name})", _FORMATS[length.bits]))
                    flush()
                    parts.append(name)
                case ir.Counted(base=base, of=of):
                    run.append((f"len({of})", _FORMATS[base.bits]))
                case ir.Listed(item=entry):
                    flush()
                    names = ", ".join(f.name for f in entry.fields)
                    inner = " + ".join(self.layout(entry))
                    parts.append(f'b"".join([{inner} for {names} in {name}])')
                case ir.Rest():
                    flush()
                    parts.append(name)
                case _:
                    run.append((name, _fixed(name, node)[1]))
        flush()
        return parts


def _arguments(layout: ir.Layout) -> list[tuple[str, str]]:
    """Return the parameters of an encoder; a body behind metadata is the caller's to append."""
    arguments = [(name, type_.replace("list[", "Sequence[", 1)) for name, type_ in _results(layout)]
    return [(name, type_) for name, type_ in arguments if name != "body"]


def _payload_encoder(layout: ir.Layout, name: str, shared: _Shared) -> str | None:
    """Return the encoder of a payload that belongs to REQUEST or RESPONSE."""
    if layout.name not in ("OPEN", "RESPONSE_META", "ERROR_BODY"):
        return None
    builder = _Encode(shared)
    parts = [part for part in builder.layout(layout) if part != "body"]
    arguments = ", ".join(
        f"{argument}: {type_}{' = b' + chr(34) * 2 if argument == 'detail' else ''}"
        for argument, type_ in _arguments(layout)
    )
    lines = "".join(f"    {line}\n" for line in builder.lines)
    what = "what stands before the body" if _results(layout)[-1][0] == "body" else "all of it"
    return (
        f"def encode_{name}({arguments}) -> bytes:\n"
        f'    """Write the {_sentence(layout.doc)}; {what}.\n\n'
        f"    Raises:\n        struct.error: a value does not fit its field.\n"
        f'    """\n{lines}    return {" + ".join(parts)}'
    )


def _frame_encoder(spec: ir.Spec, kind: ir.FrameKind, shared: _Shared) -> str:
    type_, subtype = _codes(spec, kind)
    header = shared.struct("BBBBIQ16s")
    if kind.subtype is None:
        name = kind.name.lower()
        return (
            f"def {name}_header(flags: int, seq: int, length: int, request_id: bytes) -> bytes:\n"
            f'    """Return the header of a {kind.name} with `length` octets of payload."""\n'
            f"    return {header}.pack({spec.marker:#04x}, {type_:#04x}, flags, 0, seq, length, "
            f"request_id)"
        )
    layout = spec.layout(kind.payloads[0][1])
    builder = _Encode(shared)
    parts = builder.layout(layout)
    arguments = _arguments(layout)
    if kind.scope != "connection":
        arguments.insert(0, ("request_id", "bytes"))
    request_id = "CONNECTION_ID" if kind.scope == "connection" else "request_id"
    start = f"{spec.marker:#04x}, {type_:#04x}, 0, {subtype:#04x}, 0"
    parameters = ", ".join(f"{argument}: {type_}" for argument, type_ in arguments)
    lines = [f"def encode_{kind.name.lower()}({parameters}) -> bytes:"]
    lines.append(f'    """Return a whole {kind.name} frame: {_sentence(kind.doc)}."""')
    if kind.length is not None:
        codes = "BBBBIQ16s" + "".join(_fixed(f.name, f.node)[1] for f in layout.fields)
        values = "".join(f", {f.name}" for f in layout.fields)
        lines.append(
            f"    return {shared.struct(codes)}.pack({start}, {kind.length}, {request_id}{values})"
        )
    else:
        lines.append(f"    payload = {' + '.join(parts)}")
        lines.append(f"    return {header}.pack({start}, len(payload), {request_id}) + payload")
    return "\n".join(lines)
