"""Packet diagrams of layouts: 32 bits to a row, a ruler of bits on top.

A field of fixed size is a box. Behind a field of variable size nothing is aligned any more, so
such a field ends its row: `~` stands at both edges, or `...` at the right one. Items of a list
are not drawn, the field tables have them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from muxwire_spec import model as ir

_WIDTH = 32
_LINE = "+" + "-+" * _WIDTH
_RULER = (
    "".join(f" {bit // 10 if bit % 10 == 0 else ' '}" for bit in range(_WIDTH)).rstrip(),
    "".join(f" {bit % 10}" for bit in range(_WIDTH)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cell:
    """A field as it is drawn. `bits` is None for a variable size."""

    label: str
    bits: int | None


def diagram(layout: ir.Layout) -> str:
    """Return the diagram of a layout, nested layouts drawn in their place.

    Raises:
        ValueError: a name is too long for its box.
    """
    lines = [*_RULER, _LINE]
    row: list[_Cell] = []
    free = _WIDTH
    for cell in _cells(layout):
        left = cell.bits
        if left is None:
            lines += _open_ended(row, cell.label, free)
            row, free = [], _WIDTH
            continue
        if not row and left > _WIDTH and left % _WIDTH == 0:
            lines += _block(cell.label, left // _WIDTH)
            continue
        label = cell.label
        while left:
            taken = min(left, free)
            row.append(_Cell(label=label, bits=taken))
            left -= taken
            free -= taken
            label = f"{cell.label} (cont.)"
            if not free:
                lines += [_boxes(row), _LINE]
                row, free = [], _WIDTH
    if row:
        lines += [_boxes(row), "+" + "-+" * (_WIDTH - free)]
    return "\n".join(lines)


def _cells(layout: ir.Layout) -> Iterator[_Cell]:
    for field in layout.fields:
        yield from _cells_of(field.name, field.node)
    if layout.trailing is ir.Trailing.IGNORE:
        yield _Cell(label="(octets of an extension, ignored)", bits=None)


def _cells_of(name: str, node: ir.Node) -> Iterator[_Cell]:
    match node:
        case ir.UInt(bits=bits):
            yield _Cell(label=name, bits=bits)
        case ir.Coded(base=base) | ir.FlagSet(base=base) | ir.Counted(base=base):
            yield _Cell(label=name, bits=base.bits)
        case ir.Const(base=base, value=value):
            yield _Cell(label=f"{name} = 0x{value:0{base.bits // 4}X}", bits=base.bits)
        case ir.ConstOctets(value=value):
            yield _Cell(label=f"{name} = {value.hex(' ').upper()}", bits=8 * len(value))
        case ir.Reserved(size=size):
            yield _Cell(label=f"{name} = 0", bits=8 * size)
        case ir.Octets(size=size):
            yield _Cell(label=name, bits=8 * size)
        case ir.Text(length=length):
            yield _Cell(label=f"{name}_length", bits=length.bits)
            yield _Cell(label=name, bits=None)
        case ir.Nested(length=length, body=body):
            yield _Cell(label=f"{name}_length", bits=length.bits)
            yield from _cells(body)
        case ir.Listed(count=count):
            many = f"{count} times" if count else "repeated to the end"
            yield _Cell(label=f"{name} ({many})", bits=None)
        case ir.Rest():
            yield _Cell(label=name, bits=None)


def _centred(label: str, bits: int) -> str:
    width = 2 * bits - 1
    if len(label) > width:
        raise ValueError(f"{label!r} does not fit a box of {bits} bits")
    return label.center(width)


def _boxes(row: list[_Cell]) -> str:
    inner = "|".join(_centred(cell.label, cell.bits or 0) for cell in row)
    return f"|{inner}|"


def _block(label: str, rows: int) -> list[str]:
    """Draw a field of several whole rows with its name in the middle."""
    blank = _centred("", _WIDTH)
    lines = [f"{'+' if i % 2 else '|'}{blank}{'+' if i % 2 else '|'}" for i in range(2 * rows - 1)]
    lines[rows - 1] = lines[rows - 1][0] + _centred(label, _WIDTH) + lines[rows - 1][-1]
    return [*lines, _LINE]


def _open_ended(row: list[_Cell], label: str, free: int) -> list[str]:
    """Draw a field of variable size, in what is free of the row."""
    if not row:
        return [f"~{_centred(label, _WIDTH)}~", _LINE]
    box = _centred(label, free)
    return [_boxes(row) + box[:-2] + "...", _LINE]
