"""The strict dialect: where it refuses octets, what it reports, and in which order."""

from __future__ import annotations

from typing import Any

import pytest
from muxwire_spec import registries as r
from muxwire_spec.model import Breach, Scope, Trailing
from muxwire_spec.vocabulary import (
    Broken,
    Const,
    ConstOctets,
    Counted,
    FlagSet,
    Layout,
    Listed,
    Nested,
    Octets,
    Reserved,
    Rest,
    Text,
    field,
    u8,
    u16,
)


def breach(requirement: str) -> Breach:
    return Breach(code="PROTOCOL_ERROR", scope=Scope.CONNECTION, requirement=requirement)


SHORT, WRONG, LIST = breach("PAY-002"), breach("PAY-004"), breach("PAY-005")


def layout(*fields: Any, trailing: Trailing | None = Trailing.REFUSE) -> Layout:
    return Layout("L", "A layout", *fields, malformed=SHORT, trailing=trailing)


def text(name: str, **rules: Any) -> Any:
    rules = {"maximum": 9, "pattern": "[a-z]*", "breach": WRONG, **rules}
    return field(name, Text(u8, **rules), "A text")


def broken(of: Layout, octets: bytes, **limits: int) -> Broken:
    with pytest.raises(Broken) as caught:
        of.read(octets, **limits)
    return caught.value


class TestTrailingOctets:
    def test_refused(self) -> None:
        fault = broken(layout(field("a", u8, "A")), b"\1\2\3")
        assert (fault.breach, fault.field, fault.text) == (SHORT, "", "2 octets too many")

    def test_ignored(self) -> None:
        assert layout(field("a", u8, "A"), trailing=Trailing.IGNORE).read(b"\1\2\3").a == 1

    def test_construct_alone_accepts_them(self) -> None:
        assert layout(field("a", u8, "A")).parse(b"\1\2\3").a == 1

    @pytest.mark.parametrize("trailing", [Trailing.REFUSE, Trailing.IGNORE])
    def test_inside_a_block(self, trailing: Trailing) -> None:
        inner = layout(field("a", u8, "A"), trailing=trailing)
        outer = layout(
            field("block", Nested(u8, inner, limit="LIMIT"), "B"), field("r", Rest(), "R")
        )
        octets = b"\3\1\xee\xee" + b"rest"
        if trailing is Trailing.IGNORE:
            value = outer.read(octets)
            assert (value.block.a, value.r) == (1, b"rest")
        else:
            assert broken(outer, octets).field == "block"

    def test_rest_takes_everything(self) -> None:
        assert layout(field("r", Rest(), "R")).read(b"") == {"r": b""}
        assert layout(field("r", Rest(), "R")).read(b"abc") == {"r": b"abc"}


HEADER = Layout("H", "Item", text("key"), text("value"), malformed=SHORT, trailing=None)
BLOCK = layout(
    field("n", Counted(u8, "headers"), "N"),
    text("subject"),
    field("headers", Listed(HEADER, count="n", maximum=2, unique="key", breach=LIST), "H"),
    trailing=Trailing.IGNORE,
)
OUTER = layout(field("meta", Nested(u8, BLOCK, limit="LIMIT"), "M"), field("body", Rest(), "B"))


def outer(block: bytes, body: bytes = b"") -> bytes:
    return bytes((len(block),)) + block + body


class TestPaths:
    """Where a fault is, in the names of the layout."""

    @pytest.mark.parametrize(
        ("octets", "path"),
        [
            pytest.param(b"", "meta", id="no-length"),
            pytest.param(b"\5\0", "meta", id="block-overruns-payload"),
            pytest.param(outer(b""), "meta.n", id="empty-block"),
            pytest.param(outer(b"\0"), "meta.subject", id="no-subject"),
            pytest.param(outer(b"\0\2a"), "meta.subject", id="cut-subject"),
            pytest.param(outer(b"\1\1a"), "meta.headers[0].key", id="no-item"),
            pytest.param(outer(b"\2\1a\1b\1c\1d"), "meta.headers[1].value", id="cut-item"),
        ],
    )
    def test_missing(self, octets: bytes, path: str) -> None:
        fault = broken(OUTER, octets)
        assert (fault.breach, fault.field, fault.text) == (SHORT, path, "the octets end here")

    @pytest.mark.parametrize(
        ("octets", "path", "rule"),
        [
            pytest.param(outer(b"\0\1A"), "meta.subject", WRONG, id="subject"),
            pytest.param(outer(b"\1\1a\1K\0"), "meta.headers[0].key", WRONG, id="key"),
            pytest.param(outer(b"\2\1a\1b\0\1c\1V"), "meta.headers[1].value", WRONG, id="value"),
            pytest.param(outer(b"\2\1a\1b\0\1b\0"), "meta.headers[1].key", LIST, id="repeated"),
            pytest.param(outer(b"\3\1a\1b\0\1c\0\1d\0"), "meta.headers[2]", LIST, id="too-many"),
        ],
    )
    def test_wrong(self, octets: bytes, path: str, rule: Breach) -> None:
        fault = broken(OUTER, octets)
        assert (fault.breach, fault.field) == (rule, path)
        assert str(fault).startswith(f"{rule.requirement} {path}: ")

    def test_a_limit_is_the_length_s_fault(self) -> None:
        octets = outer(b"\0\1a")
        assert OUTER.read(octets, LIMIT=3).meta.subject == b"a"
        fault = broken(OUTER, octets, LIMIT=2)
        assert (fault.field, fault.text) == ("meta_length", "3 octets, LIMIT is 2")


class TestOrder:
    def test_missing_octets_come_before_wrong_ones(self) -> None:
        assert broken(OUTER, outer(b"\1\1A")).breach is SHORT

    def test_left_over_octets_come_before_wrong_ones(self) -> None:
        assert broken(layout(text("a")), b"\1A" + b"more").breach is SHORT

    def test_of_wrong_ones_the_first_field_counts(self) -> None:
        assert broken(OUTER, outer(b"\1\1A\1K\1V")).field == "meta.subject"
        assert broken(OUTER, outer(b"\1\1a\1K\1V")).field == "meta.headers[0].key"

    def test_the_limit_comes_before_everything(self) -> None:
        assert broken(OUTER, b"\xff", LIMIT=4).field == "meta_length"


class TestWords:
    def test_a_constant_builds_itself(self) -> None:
        one = layout(field("c", Const(u16, 0x1234, WRONG), "C"))
        assert one.build({}) == b"\x12\x34"
        assert one.read(b"\x12\x34").c == 0x1234
        assert broken(one, b"\x12\x35").text == "0x1235 is not 0x1234"

    def test_a_constant_can_be_built_wrong_on_purpose(self) -> None:
        assert layout(field("c", Const(u8, 1, WRONG), "C")).build({"c": 2}) == b"\2"

    def test_constant_octets(self) -> None:
        one = layout(field("c", ConstOctets(b"ab"), "C"))
        assert one.build({}) == b"ab"
        assert one.read(b"ab").c == b"ab"

    def test_reserved_octets_are_sent_as_zero_and_pass(self) -> None:
        one = layout(field("x", Reserved(3), "X"))
        assert one.build({}) == bytes(3)
        assert one.read(b"\1\2\3").x == b"\1\2\3"
        assert broken(one, b"\1\2").field == "x"

    def test_octets_have_their_size(self) -> None:
        assert layout(field("x", Octets(2), "X")).read(b"ab").x == b"ab"
        assert broken(layout(field("x", Octets(2), "X")), b"a").field == "x"

    def test_a_counter_counts(self) -> None:
        item = Layout("I", "I", field("v", u8, "V"), malformed=SHORT, trailing=None)
        one = layout(
            field("n", Counted(u16, "items"), "N"), field("items", Listed(item, count="n"), "I")
        )
        built = one.build({"items": [{"v": 7}, {"v": 8}]})
        assert built == b"\0\2\7\10"
        assert [entry.v for entry in one.read(built)["items"]] == [7, 8]

    def test_a_list_without_a_counter_goes_to_the_end(self) -> None:
        item = Layout("I", "I", field("v", u16, "V"), malformed=SHORT, trailing=None)
        one = layout(field("items", Listed(item), "I"))
        assert one.read(b"")["items"] == []
        assert [entry.v for entry in one.read(b"\0\1\0\2")["items"]] == [1, 2]
        assert broken(one, b"\0\1\0").field == "items[1].v"

    def test_exclusive_flags(self) -> None:
        names = ("NOT_PROCESSED", "NON_RETRYABLE")
        flags = FlagSet(u16, r.ERROR_FLAGS, exclusive=names, breach=WRONG)
        one = layout(field("f", flags, "F"))
        assert [one.read(bytes((0xFF, bits))).f & 3 for bits in (0, 1, 2)] == [0, 1, 2]
        assert broken(one, b"\0\3").text == "NOT_PROCESSED and NON_RETRYABLE are both set"

    def test_a_nested_block_builds_its_length(self) -> None:
        fields = {"subject": b"ab", "headers": [{"key": b"k", "value": b""}]}
        assert OUTER.build({"meta": fields, "body": b"!"}) == b"\7\1\2ab\1k\0!"


class TestTexts:
    @pytest.mark.parametrize(
        ("octets", "rules", "fault"),
        [
            (b"", {"minimum": 1}, "0 octets, allowed are 1 to 9"),
            (b"abcdefghij", {}, "10 octets, allowed are 0 to 9"),
            (b"aB", {}, r"b'aB' does not match [a-z]*"),
            (b"a\n", {}, r"b'a\n' does not match [a-z]*"),
            (b"\xff", {"pattern": None, "utf8": True}, "not UTF-8: invalid start byte at octet 0"),
        ],
    )
    def test_faults(self, octets: bytes, rules: dict[str, Any], fault: str) -> None:
        assert broken(layout(text("t", **rules)), bytes((len(octets),)) + octets).text == fault

    def test_without_an_error_every_text_passes(self) -> None:
        one = layout(text("t", pattern=None, breach=None))
        assert one.read(b"\12abcdefghij").t == b"abcdefghij"
