"""What `lower` refuses: everything that the emitters could not take at its word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import construct
import pytest
from muxwire_spec import callhome, frames, model
from muxwire_spec import registries as r
from muxwire_spec.lower import LoweringError, lower_layout
from muxwire_spec.model import Breach, Scope, Trailing
from muxwire_spec.spec import load_spec
from muxwire_spec.vocabulary import (
    Coded,
    Const,
    Counted,
    FlagSet,
    Layout,
    Listed,
    Nested,
    Octets,
    Rest,
    Text,
    UInt,
    field,
    u8,
    u16,
    u32,
)

BREACH = Breach(code="PROTOCOL_ERROR", scope=Scope.CONNECTION, requirement="FRM-001")


def layout(*nodes: Any, trailing: Trailing | None = Trailing.REFUSE) -> Layout:
    fields = [
        node if isinstance(node, construct.Renamed) else field(f"f{index}", node, "A field")
        for index, node in enumerate(nodes)
    ]
    return Layout("L", "A layout", *fields, malformed=BREACH, trailing=trailing)


def item(*nodes: Any, trailing: Trailing | None = None) -> Layout:
    return layout(*(nodes or (u8,)), trailing=trailing)


class _OwnText(Text):
    """A subclass could mean anything."""


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a construct Struct": (construct.Struct, "not a Layout"),
    "a subclass of Layout": (
        lambda: type("Own", (Layout,), {})("L", "A", malformed=BREACH, trailing=None),
        "not a Layout",
    ),
    "a plain integer": (lambda: layout(construct.Int8ub), r"L\.f0: FormatField is not in"),
    "plain octets": (lambda: layout(construct.Bytes(4)), r"L\.f0: Bytes is not in"),
    "padding": (lambda: layout(construct.Padding(4)), r"L\.f0: \w+ is not in"),
    "a plain prefix": (lambda: layout(construct.Prefixed(u8, Rest())), "Prefixed is not in"),
    "a condition": (
        lambda: layout(construct.If(lambda this: True, u8)),  # noqa: ARG005
        r"L\.f0: IfThenElse is not in",
    ),
    "a computed value": (lambda: layout(construct.Computed(1)), "Computed is not in"),
    "greedy octets": (lambda: layout(construct.GreedyBytes), r"L\.f0: \w+ is not in"),
    "a bare nested Struct": (lambda: layout(layout(u8)), r"L\.f0: Layout is not in"),
    "a subclass of a word": (lambda: layout(_OwnText(u8, maximum=3)), "_OwnText is not in"),
    "a field without a name": (
        lambda: Layout("L", "A", u8, malformed=BREACH, trailing=None),
        r"^L: .* has no name",
    ),
    "a field without a description": (
        lambda: Layout("L", "A", field("a", u8, ""), malformed=BREACH, trailing=None),
        r"^L: .* no description",
    ),
    "a name used twice": (
        lambda: layout(field("a", u8, "One"), field("a", u16, "Two")),
        r"^L\.a: the name is used twice",
    ),
    "octets behind the rest": (lambda: layout(Rest(), u8), r"^L\.f0: nothing can follow"),
    "octets behind an endless list": (
        lambda: layout(Listed(item()), u8),
        r"^L\.f0: nothing can follow",
    ),
    "a constant of foreign width": (
        lambda: layout(Const(construct.Int8ub, 1, BREACH)),
        "not an unsigned integer",
    ),
    "a constant that does not fit": (lambda: layout(Const(u8, 256, BREACH)), "does not fit 8 bits"),
    "a negative constant": (lambda: layout(Const(u8, -1, BREACH)), "does not fit 8 bits"),
    "a code of the wrong width": (
        lambda: layout(Coded(u16, r.ERROR_CODES)),
        r"^L\.f0: ERROR_CODES has 32 bits",
    ),
    "a code of foreign width": (
        lambda: layout(Coded(construct.Int32ub, r.ERROR_CODES)),
        "not an unsigned integer",
    ),
    "flags of the wrong width": (
        lambda: layout(FlagSet(u8, r.ERROR_FLAGS)),
        r"^L\.f0: ERROR_FLAGS has 16 bits",
    ),
    "an unknown exclusive flag": (
        lambda: layout(FlagSet(u16, r.ERROR_FLAGS, exclusive=("SOME",), breach=BREACH)),
        "has no flag SOME",
    ),
    "exclusive flags without an error": (
        lambda: layout(FlagSet(u16, r.ERROR_FLAGS, exclusive=("NOT_PROCESSED",))),
        "exclusive without an error",
    ),
    "an error of flags without a rule": (
        lambda: layout(FlagSet(u16, r.ERROR_FLAGS, breach=BREACH)),
        "an error without a rule",
    ),
    "a text too long for its length": (
        lambda: layout(Text(u8, maximum=256, breach=BREACH)),
        "no length of 8 bits",
    ),
    "a text of no size": (
        lambda: layout(Text(u8, minimum=4, maximum=3, breach=BREACH)),
        "no length of 8 bits",
    ),
    "a pattern without an error": (
        lambda: layout(Text(u8, maximum=3, pattern="a*")),
        "a pattern without an error",
    ),
    "UTF-8 without an error": (
        lambda: layout(Text(u8, maximum=3, utf8=True)),
        "utf8 without an error",
    ),
    "a foreign length of a text": (
        lambda: layout(Text(construct.Int8ub, maximum=3)),
        "not an unsigned integer",
    ),
    "a foreign length of a block": (
        lambda: layout(Nested(construct.VarInt, layout(u8), limit="MAX_METADATA_SIZE")),
        "not an unsigned integer",
    ),
    "a block that does not say what may follow": (
        lambda: layout(Nested(u8, layout(u8, trailing=None), limit="MAX_METADATA_SIZE")),
        "has to say what may follow",
    ),
    "a fault inside a block": (
        lambda: layout(Nested(u8, layout(construct.Int8ub), limit="MAX_METADATA_SIZE")),
        r"^L\.f0: FormatField is not in",
    ),
    "an item with trailing octets": (
        lambda: layout(Listed(item(trailing=Trailing.IGNORE))),
        "nothing but the next item",
    ),
    "an item without an end": (lambda: layout(Listed(item(u8, Rest()))), "no size of its own"),
    "an item without a field": (
        lambda: layout(Listed(Layout("I", "Item", malformed=BREACH, trailing=None))),
        "no size of its own",
    ),
    "a maximum without an error": (lambda: layout(Listed(item(), maximum=3)), "a maximum without"),
    "a unique field without an error": (
        lambda: layout(Listed(item(), unique="f0")),
        "unique without",
    ),
    "an error of a list without a rule": (
        lambda: layout(Listed(item(), breach=BREACH)),
        "an error without a rule",
    ),
    "an unknown unique field": (
        lambda: layout(Listed(item(), unique="key", breach=BREACH)),
        "has no field key",
    ),
    "a count that is no field": (
        lambda: layout(Listed(item(), count="n")),
        r"^L\.f0: n does not count it",
    ),
    "a count that follows": (
        lambda: layout(
            field("a", Listed(item(), count="n"), "A"), field("n", Counted(u8, "a"), "N")
        ),
        r"^L\.a: n does not count it",
    ),
    "a count that is a plain number": (
        lambda: layout(field("n", u8, "N"), field("a", Listed(item(), count="n"), "A")),
        r"^L\.a: n does not count it",
    ),
    "a count of another list": (
        lambda: layout(
            field("n", Counted(u8, "b"), "N"), field("a", Listed(item(), count="n"), "A")
        ),
        r"^L\.a: n does not count it",
    ),
    "a count of nothing": (
        lambda: layout(field("n", Counted(u8, "a"), "N"), field("a", Octets(3), "A")),
        r"^L\.n: no list a is counted by it",
    ),
    "a foreign count": (
        lambda: layout(field("n", Counted(construct.Int8ub, "a"), "N")),
        "not an unsigned integer",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    make, message = REFUSED[case]
    with pytest.raises(LoweringError, match=message):
        lower_layout(make())


def test_the_message_names_the_nested_field() -> None:
    inner = Layout("I", "Inner", field("x", construct.Int8ub, "X"), malformed=BREACH, trailing=None)
    with pytest.raises(LoweringError, match=r"^I\.x: "):
        lower_layout(layout(Listed(inner)))


def test_what_is_lowered_says_the_same() -> None:
    lowered = lower_layout(
        layout(
            field("n", Counted(u8, "a"), "Count"),
            field("kind", Coded(u32, r.ERROR_CODES), "Kind"),
            field("a", Listed(item(u16), count="n", maximum=4, breach=BREACH), "Items"),
            trailing=Trailing.IGNORE,
        )
    )
    assert lowered == model.Layout(
        name="L",
        doc="A layout",
        fields=(
            model.Field(name="n", doc="Count", node=model.Counted(base=model.UInt(bits=8), of="a")),
            model.Field(
                name="kind",
                doc="Kind",
                node=model.Coded(base=model.UInt(bits=32), registry="ERROR_CODES"),
            ),
            model.Field(
                name="a",
                doc="Items",
                node=model.Listed(
                    item=model.Layout(
                        name="L",
                        doc="A layout",
                        fields=(model.Field(name="f0", doc="A field", node=model.UInt(bits=16)),),
                        trailing=None,
                        malformed=BREACH,
                    ),
                    count="n",
                    maximum=4,
                    unique=None,
                    breach=BREACH,
                ),
            ),
        ),
        trailing=Trailing.IGNORE,
        malformed=BREACH,
    )


def test_the_specification_is_lowered_whole() -> None:
    spec = load_spec()
    layouts = (*frames.LAYOUTS, *callhome.LAYOUTS)
    assert [found.name for found in spec.layouts] == [found.title for found in layouts]
    names = {found.name for found in spec.layouts}
    assert {n for kind in (*spec.frames, *spec.callhome.frames) for _, n in kind.payloads} <= names


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
def test_widths_of_integers(bits: int) -> None:
    (only,) = lower_layout(layout(UInt(bits))).fields
    assert only.node == model.UInt(bits=bits)
