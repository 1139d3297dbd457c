"""Annotated hex dump: every octet of a frame gets its field, and the first faulty field a mark.

It walks the intermediate representation over the octets and never raises: what cannot be read is
shown as what it is. The verdict comes from `interpret`, so a mark is always a rule of the spec.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from muxwire_spec import model as ir
from muxwire_spec.interpret import (
    WCH,
    WMX,
    Reading,
    kind_of,
    payload_layout,
    read_frame,
    receiver_of,
)
from muxwire_spec.spec import load_spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A broken rule: the error it leads to, the requirement, and what is wrong."""

    code: str
    requirement: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One field: where it starts, its octets, its name, its meaning, and the fault if it has it."""

    offset: int
    octets: bytes
    field: str
    value: str
    fault: Fault | None = None


def annotate(
    data: bytes, *, receiver: str = "worker", first: bool = False, protocol: str = WMX
) -> list[Line]:
    """Name every octet of the frame, or of the preface, that `data` holds.

    Args:
        data: The octets of one frame, possibly cut short or followed by others.
        receiver: "worker", "client" or, for WCH/1, "router": whose rules decide what is faulty.
        first: Whether it is the first frame of its direction.
        protocol: "WMX/1" or "WCH/1". A preface says by itself which it belongs to.

    Returns:
        The fields in order. At most one line has a fault: the first rule broken in the order of
        precedence. Octets behind the frame are one line called "(behind)".
    """
    for magic, layout in _prefaces().items():
        if data.startswith(magic):
            return _preface(data, layout)
    reading = read_frame(data, receiver_of(protocol, receiver, first=first))
    walk = _Walk(data=data, end=min(len(data), reading.size))
    if reading.fault is not None and reading.fault.step == "marker":
        walk.end = len(data)
        walk.rest("marker")
        return _mark(walk.lines, None, reading)
    walk.layout(load_spec().layout("HEADER"), "")
    if reading.header is not None:
        kind = kind_of(reading.header, protocol)
        if kind is None:
            walk.rest("payload")
        else:
            name = payload_layout(reading.header, kind).title
            walk.layout(load_spec().layout(name), "")
    walk.finish(reading.size)
    return _mark(walk.lines, walk.short, reading) + _behind(data, reading.size)


def annotate_stream(
    data: bytes, *, receiver: str = "worker", protocol: str = WMX
) -> Iterator[list[Line]]:
    """Annotate frame after frame until the octets end or cannot be told apart any more.

    A frame right behind a preface is taken as the first of its direction. A preface of WCH/1
    makes what follows it WCH/1, where a client is the router.
    """
    at = 0
    first = False
    while at < len(data):
        if data[at:].startswith(load_spec().callhome.magic):
            protocol = WCH
            receiver = "worker" if receiver == "worker" else "router"
        lines = annotate(data[at:], receiver=receiver, first=first, protocol=protocol)
        first = lines[0].field == "magic"
        lines = [line for line in lines if line.field != "(behind)"]
        yield [replace(line, offset=line.offset + at) for line in lines]
        size = sum(len(line.octets) for line in lines)
        if size == 0:
            return
        at += size


def render(lines: Sequence[Line]) -> str:
    """Render annotated lines as text: offset, octets, field, meaning; the fault below its field."""
    rows = []
    for line in lines:
        octets = line.octets
        shown = octets[:8].hex(" ")
        rows.append(f"{line.offset:6x}  {shown:<23}  {line.field:<28} {line.value}".rstrip())
        for start in range(8, min(len(octets), 64), 8):
            rows.append(f"{line.offset + start:6x}  {octets[start : start + 8].hex(' ')}")
        if len(octets) > 64:
            rows.append(f"        ... {len(octets) - 64} octets more")
        if line.fault is not None:
            fault = line.fault
            rows.append(f"        ^^ {fault.requirement} {fault.code}: {fault.text}")
    return "\n".join(rows)


def _prefaces() -> dict[bytes, str]:
    """Return the layout of the preface by its magic."""
    spec = load_spec()
    return {spec.magic: "PREFACE", spec.callhome.magic: spec.callhome.preface}


def _preface(data: bytes, layout: str) -> list[Line]:
    spec = load_spec()
    walk = _Walk(data=data, end=min(len(data), spec.preface_size))
    walk.layout(spec.layout(layout), "")
    walk.finish(spec.preface_size)
    return walk.lines + _behind(data, spec.preface_size)


def _behind(data: bytes, size: int) -> list[Line]:
    return [_line(size, data[size:], "(behind)", "the next frame")] if len(data) > size else []


def _line(offset: int, octets: bytes, field: str, value: str) -> Line:
    return Line(offset=offset, octets=octets, field=field, value=value)


class _ShortError(Exception):
    """The octets end inside a field."""


@dataclass
class _Walk:
    """A walk over the octets, guided by layouts. `short` is the line where they ran out."""

    data: bytes
    end: int

    def __post_init__(self) -> None:
        self.at = 0
        self.lines: list[Line] = []
        self.short: Line | None = None

    def layout(self, layout: ir.Layout, path: str) -> None:
        try:
            self._layout(layout, path, self.end)
        except _ShortError:
            self.short = self.lines[-1] if self.lines else None

    def rest(self, name: str) -> None:
        self._take(self.end - self.at, name, _octets, self.end)

    def finish(self, size: int) -> None:
        """Show what no field has claimed, and say how much is missing."""
        if self.at < self.end:
            self._take(self.end - self.at, "(not read)", _octets, self.end)
        if self.end < size:
            left = size - self.end
            missing = f"{left} octet{'s have' if left > 1 else ' has'} not arrived"
            self.lines.append(_line(self.end, b"", "(missing)", missing))

    def _layout(self, layout: ir.Layout, path: str, end: int) -> dict[str, int]:
        numbers: dict[str, int] = {}
        for field in layout.fields:
            self._field(field.name, field.node, f"{path}{field.name}", end, numbers)
        return numbers

    def _field(
        self, name: str, node: ir.Node, path: str, end: int, numbers: dict[str, int]
    ) -> None:
        match node:
            case ir.Text(length=length):
                size = self._number(length, f"{path}_length", end)
                self._take(size, path, _text, end)
            case ir.Nested(length=length, body=body):
                size = self._number(length, f"{path}_length", end)
                inner = min(self.at + size, end)
                cut = self.at + size > end
                self._layout(body, f"{path}.", inner)
                if self.at < inner:
                    self._take(inner - self.at, f"{path}.(extension)", _octets, inner)
                if cut:
                    raise _ShortError
            case ir.Listed(item=item, count=count):
                index = 0
                while index < numbers[count] if count is not None else self.at < end:
                    self._layout(item, f"{path}[{index}].", end)
                    index += 1
            case ir.Rest():
                self._take(end - self.at, path, _octets, end)
            case ir.ConstOctets(value=value):
                self._take(len(value), path, _octets, end)
            case ir.Octets(size=size):
                show = _request_id if name == "request_id" else _octets
                self._take(size, path, show, end)
            case ir.Reserved(size=size):
                self._take(size, path, _octets, end)
            case ir.UInt():
                numbers[name] = self._number(node, path, end)
            case ir.Const(base=base) | ir.Counted(base=base):
                numbers[name] = self._number(base, path, end)
            case ir.Coded(base=base, registry=registry):
                numbers[name] = self._number(base, path, end, registry=registry)
            case ir.FlagSet(base=base, registry=registry):
                numbers[name] = self._number(base, path, end, flags=registry)

    def _number(
        self, node: ir.UInt, path: str, end: int, *, registry: str = "", flags: str = ""
    ) -> int:
        def show(octets: bytes) -> str:
            value = int.from_bytes(octets)
            if registry:
                name = load_spec().registry(registry).name_of(value)
                return f"{value:#04x} {name or '(unassigned)'}"
            if flags:
                return f"{value:#04x} {_flag_names(flags, value)}".rstrip()
            return _meaning(path, value, self.lines)

        return int.from_bytes(self._take(node.bits // 8, path, show, end))

    def _take(self, size: int, path: str, show: object, end: int) -> bytes:
        octets = self.data[self.at : min(self.at + size, end)]
        if len(octets) < size:
            self.lines.append(
                _line(self.at, octets, path, f"{len(octets)} of {size} octets are there")
            )
            self.at += len(octets)
            raise _ShortError
        if size or path.endswith(("subject", "value", "message")):
            value = show(octets) if callable(show) else ""
            self.lines.append(_line(self.at, octets, path, value))
        self.at += size
        return octets


def _meaning(path: str, value: int, lines: list[Line]) -> str:
    """Say what a plain number means where its neighbours tell."""
    name = path.rpartition(".")[2]
    if path == "subtype" and lines:
        type_ = int.from_bytes(lines[1].octets) if len(lines) > 1 else 0
        registry = {3: "CONTROL_SUBTYPES", 4: "HEARTBEAT_SUBTYPES"}.get(type_)
        known = load_spec().registry(registry).name_of(value) if registry else None
        return f"{value:#04x} {known}" if known else f"{value:#04x}"
    if path.startswith("settings[") and name == "id":
        for setting in load_spec().settings:
            if setting.value == value:
                return f"{value:#06x} {setting.name}"
        return f"{value:#06x} (unknown, ignored)"
    if name == "marker":
        return f"{value:#04x}"
    return f"{value:,}"


def _flag_names(registry: str, value: int) -> str:
    entries = load_spec().registry(registry).entries
    names = [entry.name for entry in entries if value & entry.value]
    other = value & ~sum(entry.value for entry in entries)
    if other:
        names.append(f"{other:#04x} (ignored)")
    return " | ".join(names)


def _request_id(octets: bytes) -> str:
    if not any(octets):
        return "the connection"
    return str(uuid.UUID(bytes=octets))


def _text(octets: bytes) -> str:
    return f'"{_printable(octets[:96])}"{_more(octets, 96)}'


def _octets(octets: bytes) -> str:
    if not octets:
        return "(none)"
    return f"{len(octets)} octets |{_printable(octets[:32])}|{_more(octets, 32)}"


def _printable(octets: bytes) -> str:
    return "".join(chr(octet) if 0x20 <= octet < 0x7F else "." for octet in octets)


def _more(octets: bytes, shown: int) -> str:
    return "..." if len(octets) > shown else ""


def _mark(lines: list[Line], short: Line | None, reading: Reading) -> list[Line]:
    """Put the reading's fault on the line that it names, or on the nearest one."""
    if reading.fault is None:
        return lines
    fault = Fault(
        code=reading.fault.breach.code,
        requirement=reading.fault.breach.requirement,
        text=reading.fault.text,
    )
    name = reading.fault.field
    exact = [i for i, line in enumerate(lines) if line.field in (name, f"{name}_length")]
    inside = [i for i, line in enumerate(lines) if name and line.field.startswith(name)]
    cut = [i for i, line in enumerate(lines) if line is short]
    # The length comes first, but its text has the fault when it is there.
    index = (exact[-1:] or cut or inside or [len(lines) - 1])[0]
    return [replace(line, fault=fault) if i == index else line for i, line in enumerate(lines)]
