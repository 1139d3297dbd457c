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
    _refuse_idle_counters(layout.title, fields)
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


def _refuse_unenforced(where: str, rules: dict[str, Any], breach: ir.Breach | None) -> None:
    """Refuse a rule that nothing enforces, and an error that no rule leads to."""
    given = [name for name, value in rules.items() if value]
    if given and breach is None:
        raise LoweringError(f"{where}: {given[0]} without an error to raise")
    if breach is not None and not given:
        raise LoweringError(f"{where}: an error without a rule")


def _const(node: v.Const, where: str) -> ir.Const:
    base = _uint(node.base, where)
    if not 0 <= node.value < 1 << base.bits:
        raise LoweringError(f"{where}: {node.value} does not fit {base.bits} bits")
    return ir.Const(base=base, value=node.value, breach=node.breach)


def _coded(node: v.Coded, where: str) -> ir.Coded:
    base = _uint(node.base, where)
    if base.bits != node.registry.bits:
        raise LoweringError(f"{where}: {node.registry.name} has {node.registry.bits} bits")
    return ir.Coded(base=base, registry=node.registry.name)


def _flag_set(node: v.FlagSet, where: str) -> ir.FlagSet:
    base = _uint(node.base, where)
    if base.bits != node.registry.bits:
        raise LoweringError(f"{where}: {node.registry.name} has {node.registry.bits} bits")
    _refuse_unenforced(where, {"exclusive": node.exclusive}, node.breach)
    for name in node.exclusive:
        if name not in {entry.name for entry in node.registry.entries}:
            raise LoweringError(f"{where}: {node.registry.name} has no flag {name}")
    return ir.FlagSet(
        base=base, registry=node.registry.name, exclusive=node.exclusive, breach=node.breach
    )


def _text(node: v.Text, where: str) -> ir.Text:
    length = _uint(node.length, where)
    if not 0 <= node.minimum <= node.maximum < 1 << length.bits:
        raise LoweringError(f"{where}: no length of {length.bits} bits has that range")
    if node.breach is None:
        rules = {"a minimum": node.minimum, "a pattern": node.pattern, "utf8": node.utf8}
        _refuse_unenforced(where, rules, None)
    return ir.Text(
        length=length,
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
    if not item.fields or _is_open_ended(item.fields[-1].node):
        raise LoweringError(f"{where}: an item has no size of its own")
    _refuse_unenforced(where, {"a maximum": node.maximum, "unique": node.unique}, node.breach)
    if node.unique is not None and node.unique not in {field.name for field in item.fields}:
        raise LoweringError(f"{where}: an item has no field {node.unique}")
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
    v.Const: _const,
    v.ConstOctets: lambda node, _: ir.ConstOctets(value=node.value),
    v.Coded: _coded,
    v.FlagSet: _flag_set,
    v.Reserved: lambda node, _: ir.Reserved(size=node.size),
    v.Counted: lambda node, where: ir.Counted(base=_uint(node.base, where), of=node.of),
    v.Text: _text,
    v.Nested: _nested,
    v.Listed: _listed,
}


def _is_open_ended(node: ir.Node) -> bool:
    return isinstance(node, ir.Rest) or (isinstance(node, ir.Listed) and node.count is None)


def _refuse_octets_behind_rest(layout: str, fields: tuple[ir.Field, ...]) -> None:
    for field in fields[:-1]:
        if _is_open_ended(field.node):
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


def _refuse_idle_counters(layout: str, fields: tuple[ir.Field, ...]) -> None:
    counted = {f.node.count: f.name for f in fields if isinstance(f.node, ir.Listed)}
    for field in fields:
        if isinstance(field.node, ir.Counted) and counted.get(field.name) != field.node.of:
            raise LoweringError(f"{layout}.{field.name}: no list {field.node.of} is counted by it")
