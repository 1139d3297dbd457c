"""Construct to IR. Whatever it does not know, it refuses: that is its whole purpose."""

from __future__ import annotations

from typing import Any

import construct

from muxwire_spec import model as ir
from muxwire_spec import vocabulary as v


class LoweringError(Exception):
    """A layout uses something outside the vocabulary; the message names the field."""


def lower_layout(layout: v.Layout) -> ir.Layout:
    """Lower one layout with everything inside it.

    Raises:
        LoweringError: a part of it is not in the vocabulary, or cannot mean what it says.
    """
    if type(layout) is not v.Layout:
        raise LoweringError(f"{layout!r} is not a Layout of the vocabulary")
    fields = tuple(_field(subcon, layout.title) for subcon in layout.subcons)
    _refuse_octets_behind_rest(layout.title, fields)
    _refuse_bad_references(layout.title, fields)
    return ir.Layout(
        name=layout.title,
        doc=layout.doc,
        fields=fields,
        trailing=layout.trailing,
        malformed=layout.malformed,
    )


def _field(renamed: Any, where: str) -> ir.Field:
    if type(renamed) is not construct.Renamed or not renamed.name or not renamed.docs:
        raise LoweringError(f"{where}: {renamed!r} has no name or no description")
    where = f"{where}.{renamed.name}"
    return ir.Field(name=renamed.name, doc=renamed.docs, node=_node(renamed.subcon, where))


def _uint(node: Any, where: str) -> ir.UInt:
    if type(node) is not v.UInt:
        raise LoweringError(f"{where}: {node!r} is not an unsigned integer")
    return ir.UInt(bits=node.bits)


def _node(node: Any, where: str) -> ir.Node:
    lower = _LOWER.get(type(node))
    if lower is None:
        raise LoweringError(f"{where}: {type(node).__name__} is not in the vocabulary")
    return lower(node, where)  # type: ignore[no-any-return]


def _coded(node: v.Coded, where: str) -> ir.Coded:
    base = _uint(node.base, where)
    if base.bits != node.registry.bits:
        raise LoweringError(f"{where}: {node.registry.name} has {node.registry.bits} bits")
    return ir.Coded(base=base, registry=node.registry.name)


def _flag_set(node: v.FlagSet, where: str) -> ir.FlagSet:
    base = _uint(node.base, where)
    if base.bits != node.registry.bits:
        raise LoweringError(f"{where}: {node.registry.name} has {node.registry.bits} bits")
    return ir.FlagSet(
        base=base, registry=node.registry.name, exclusive=node.exclusive, breach=node.breach
    )


def _text(node: v.Text, where: str) -> ir.Text:
    return ir.Text(
        length=_uint(node.length, where),
        minimum=node.minimum,
        maximum=node.maximum,
        pattern=node.pattern,
        utf8=node.utf8,
        breach=node.breach,
    )


def _nested(node: v.Nested, where: str) -> ir.Nested:
    body = lower_layout(node.body)
    if body.trailing is None:
        raise LoweringError(f"{where}: a nested layout has to say what may follow it")
    return ir.Nested(length=_uint(node.length, where), body=body, limit=node.limit)


def _listed(node: v.Listed, where: str) -> ir.Listed:
    item = lower_layout(node.item)
    if item.trailing is not None:
        raise LoweringError(f"{where}: nothing but the next item can follow an item")
    return ir.Listed(
        item=item,
        count=node.count,
        maximum=node.maximum,
        unique=node.unique,
        breach=node.breach,
    )


_LOWER: dict[type, Any] = {
    v.UInt: _uint,
    v.Octets: lambda node, _: ir.Octets(size=node.size),
    v.Rest: lambda _node, _: ir.Rest(),
    v.Const: lambda node, where: ir.Const(
        base=_uint(node.base, where), value=node.value, breach=node.breach
    ),
    v.ConstOctets: lambda node, _: ir.ConstOctets(value=node.value),
    v.Coded: _coded,
    v.FlagSet: _flag_set,
    v.Reserved: lambda node, _: ir.Reserved(size=node.size),
    v.Counted: lambda node, where: ir.Counted(base=_uint(node.base, where), of=node.of),
    v.Text: _text,
    v.Nested: _nested,
    v.Listed: _listed,
}


def _refuse_octets_behind_rest(layout: str, fields: tuple[ir.Field, ...]) -> None:
    for field in fields[:-1]:
        open_ended = isinstance(field.node, ir.Rest) or (
            isinstance(field.node, ir.Listed) and field.node.count is None
        )
        if open_ended:
            raise LoweringError(f"{layout}.{field.name}: nothing can follow it")


def _refuse_bad_references(layout: str, fields: tuple[ir.Field, ...]) -> None:
    seen: dict[str, ir.Node] = {}
    for field in fields:
        if field.name in seen:
            raise LoweringError(f"{layout}.{field.name}: the name is used twice")
        if isinstance(field.node, ir.Listed) and field.node.count is not None:
            counter = seen.get(field.node.count)
            if not isinstance(counter, ir.Counted) or counter.of != field.name:
                raise LoweringError(f"{layout}.{field.name}: {field.node.count} does not count it")
        seen[field.name] = field.node
