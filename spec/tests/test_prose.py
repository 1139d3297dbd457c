"""The generated regions: what they contain, and that nothing else of a chapter moves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from muxwire_spec import model as ir
from muxwire_spec.emit import tables
from muxwire_spec.emit.diagram import diagram
from muxwire_spec.emit.prose import ProseError, fill
from muxwire_spec.spec import load_spec
from muxwire_spec.vectors import GOLDEN

SPEC = load_spec()
CHAPTERS = sorted((Path(__file__).resolve().parents[1] / "text").glob("[0-9][0-9]-*.md"))
NAMES = sorted(
    {
        name
        for path in CHAPTERS
        for name in re.findall(r"<!-- generated: (.+) -->", path.read_text(encoding="utf-8"))
    }
)
OPEN, CLOSE = "<!-- generated: table constants -->", "<!-- /generated -->"


def region(name: str) -> str:
    """Return what stands in a region."""
    text = fill(SPEC, f"<!-- generated: {name} -->\n{CLOSE}", "x.md")
    first, *content, last = text.split("\n")
    assert (first, last) == (f"<!-- generated: {name} -->", CLOSE)
    assert content[0] == content[-1] == ""
    return "\n".join(content[1:-1])


def rows(text: str) -> list[list[str]]:
    """Return the cells of the Markdown tables in a text, without their heads."""
    lines = [line for line in text.split("\n") if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    heads = {i for i, row in enumerate(cells) if set(row) == {"---"}}
    return [row for i, row in enumerate(cells) if i not in heads and i + 1 not in heads]


class TestRegions:
    def test_a_region_is_replaced(self) -> None:
        old = f"a\n{OPEN}\nold\n| x |\n{CLOSE}\nb\n"
        new = fill(SPEC, old, "x.md")
        assert new.startswith(f"a\n{OPEN}\n\n| name |")
        assert new.endswith(f" |\n\n{CLOSE}\nb\n")
        assert "old" not in new

    def test_filling_twice_changes_nothing(self) -> None:
        for path in CHAPTERS:
            once = fill(SPEC, path.read_bytes().decode(), path.name)
            assert fill(SPEC, once, path.name) == once

    @given(st.lists(st.text(), max_size=4).map("\r\n".join), st.text(max_size=20))
    def test_every_octet_outside_stays(self, before: str, after: str) -> None:
        text = f"# T\n{before}\n{OPEN}\nold\n{CLOSE}\n{after}"
        if "```" in text or "~~~" in text:
            return
        head, inside, tail = fill(SPEC, text, "x.md").rpartition(region("table constants"))
        assert inside
        assert head == f"# T\n{before}\n{OPEN}\n\n"
        assert tail == f"\n\n{CLOSE}\n{after}"

    @pytest.mark.parametrize("text", ["", "\n", "no newline", "trailing  \r\n\r\n", "\ufefftext\n"])
    def test_a_chapter_without_regions_is_left_alone(self, text: str) -> None:
        assert fill(SPEC, text, "x.md") == text

    def test_two_regions(self) -> None:
        text = f"{OPEN}\n{CLOSE}\nbetween\n<!-- generated: registry flags -->\n{CLOSE}"
        filled = fill(SPEC, text, "x.md")
        assert filled.index("MAX_SETTINGS") < filled.index("between") < filled.index("END_STREAM")

    def test_marks_in_a_code_fence_are_text(self) -> None:
        text = "```\n<!-- generated: nonsense -->\n```\n"
        assert fill(SPEC, text, "x.md") == text

    @pytest.mark.parametrize(
        "name",
        [
            "",
            "nonsense",
            "diagram",
            "diagram nothing",
            "diagram HEADER",
            "diagram  header",
            "fields nothing",
            "registry nothing",
            "table nothing",
            "machine nothing",
            "Table constants",
        ],
    )
    def test_an_unknown_name_is_an_error_with_its_place(self, name: str) -> None:
        with pytest.raises(ProseError, match=r"^02-x\.md:3: unknown generated region '"):
            fill(SPEC, f"one\ntwo\n<!-- generated: {name} -->\n{CLOSE}\n", "02-x.md")

    @pytest.mark.parametrize("end", ["", f"\n{OPEN}\n{CLOSE}", "\n <!-- /generated ->"])
    def test_a_region_without_an_end_is_an_error_with_its_place(self, end: str) -> None:
        with pytest.raises(ProseError, match=r"^x\.md:2: generated region .* is not closed$"):
            fill(SPEC, f"one\n{OPEN}\ntext{end}", "x.md")

    @pytest.mark.parametrize("name", NAMES)
    def test_regions_of_the_chapters_have_contents(self, name: str) -> None:
        assert len(region(name).split("\n")) >= 3


class TestDiagrams:
    @pytest.mark.parametrize("layout", SPEC.layouts, ids=lambda layout: layout.name)
    def test_every_layout_can_be_drawn(self, layout: ir.Layout) -> None:
        top, bits, *lines = diagram(layout).split("\n")
        assert bits == "".join(f" {bit % 10}" for bit in range(32))
        assert [top.index(digit) for digit in "0123"] == [1, 21, 41, 61]
        assert lines[0] == "+" + "-+" * 32
        for line in lines:
            assert len(line) <= 65
            assert line[0] in "+|~"
            assert line[-1] in "+|~."
        for number, line in enumerate(lines):
            if line[0] == "|" and line[-1] == "|" and len(line) == 65:
                bars = [at for at, character in enumerate(line) if character == "|"]
                assert all(bar % 16 == 0 for bar in bars), number

    def test_the_header(self) -> None:
        lines = region("diagram header").split("\n")
        assert (lines[0], lines[-1]) == ("```text", "```")
        assert lines[4] == "| marker = 0xF7 |      type     |     flags     |    subtype    |"
        assert len([line for line in lines if line.startswith("+-")]) == 5

    def test_octets_drawn_are_those_of_the_layout(self) -> None:
        for name in ("header", "preface", "window-update", "ping"):
            lines = region(f"diagram {name}").split("\n")[3:-2]
            size = SPEC.layout(name.upper().replace("-", "_"))
            drawn = sum(4 for at, line in enumerate(lines) if at % 2 and line[0] in "|+")
            assert drawn == tables.minimum_size(size)

    def test_variable_fields_have_open_edges(self) -> None:
        text = region("diagram open")
        assert re.search(r"\| +subject_length +\| +subject +\.\.\.\n", text)
        assert re.search(r"~ +headers \(header_count times\) +~", text)
        assert re.search(r"~ +body +~", text)

    def test_a_field_over_the_edge_of_a_row_goes_on_in_the_next(self) -> None:
        text = diagram(SPEC.layout("ERROR_BODY"))
        assert re.search(r"\| +error_flags +\| +retry_after_ms +\|", text)
        assert re.search(r"\| +retry_after_ms \(cont\.\) +\| +message_length +\|", text)

    def test_octets_behind_the_last_field(self) -> None:
        assert diagram(SPEC.layout("GOAWAY")).split("\n")[-2].strip("~ ").startswith("(octets of")

    def test_a_row_that_is_not_full(self) -> None:
        assert diagram(small("a")).split("\n")[2:] == [
            "+" + "-+" * 32,
            "|       a       |",
            "+-+-+-+-+-+-+-+-+",
        ]

    def test_a_name_that_is_too_long(self) -> None:
        with pytest.raises(ValueError, match="does not fit a box of 8 bits"):
            diagram(small("a_name_that_is_too_long"))


def small(name: str) -> ir.Layout:
    field = ir.Field(name=name, doc="A", node=ir.UInt(bits=8))
    return ir.Layout(
        name="SMALL",
        doc="A",
        fields=(field,),
        trailing=ir.Trailing.REFUSE,
        malformed=SPEC.layouts[0].malformed,
    )


class TestFields:
    @pytest.mark.parametrize("layout", SPEC.layouts, ids=lambda layout: layout.name)
    def test_every_layout_has_a_table(self, layout: ir.Layout) -> None:
        found = rows(tables.fields(SPEC, layout))
        assert all(len(row) == 4 for row in found)
        assert {f"`{field.name}`" for field in layout.fields} <= {row[0] for row in found}

    def test_nested_fields_are_dotted(self) -> None:
        names = [row[0] for row in rows(region("fields open"))]
        assert names == [
            "`metadata_length`",
            "`metadata`",
            "`metadata.timeout_ms`",
            "`metadata.request_flags`",
            "`metadata.header_count`",
            "`metadata.subject_length`",
            "`metadata.subject`",
            "`metadata.headers`",
            "`metadata.headers[].key_length`",
            "`metadata.headers[].key`",
            "`metadata.headers[].value_length`",
            "`metadata.headers[].value`",
            "`body`",
        ]

    def test_rules_name_the_error(self) -> None:
        found = {row[0]: row for row in rows(region("fields open"))}
        assert found["`metadata.subject`"] == [
            "`metadata.subject`",
            "1 to 255",
            "Selects the handler",
            r"matches `[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*`, "
            "else stream error INVALID_ARGUMENT (PAY-004)",
        ]

    def test_what_is_missing_or_left_over(self) -> None:
        assert "and octets left over, are" in region("fields settings-payload")
        assert "Octets behind the last field are ignored." in region("fields goaway")
        assert "left over" not in region("fields open")


class TestTables:
    @pytest.mark.parametrize("registry", SPEC.registries, ids=lambda registry: registry.name)
    def test_registries(self, registry: ir.Registry) -> None:
        found = rows(region(f"registry {registry.name.lower().replace('_', '-')}"))
        assert [(int(v, 16), n.strip("`"), d) for v, n, d in found] == [
            (entry.value, entry.name, entry.doc) for entry in registry.entries
        ]

    def test_settings(self) -> None:
        found = rows(region("registry settings"))
        assert [row[1] for row in found] == [f"`{setting.name}`" for setting in SPEC.settings]
        assert found[2][2:6] == ["65,536", "65,536", "262,144", "2^40"]

    def test_frames(self) -> None:
        found = rows(region("table frames"))
        assert [row[0] for row in found] == [kind.name for kind in SPEC.frames]
        assert found[1][1:] == [
            "0x02",
            "worker",
            "of the request",
            "END_STREAM, MORE, META, ERROR",
            "ERROR: ERROR_BODY; META: RESPONSE_META; else DATA",
            "0 to MAX_FRAME_SIZE",
        ]
        assert [row[6] for row in found[2:]] == [
            "0 to 640, a multiple of 10",
            "0",
            "8",
            "4",
            "4",
            "18 to 4,096",
            "8",
            "8",
        ]

    def test_constants(self) -> None:
        found = {row[0]: row[1] for row in rows(region("table constants"))}
        assert found["`MAX_LIMIT`"] == "2^63 - 1"
        assert found["`MAX_SEQ`"] == "2^32 - 2"
        assert found["`QUANTUM`"] == "65,536"

    def test_vectors(self) -> None:
        text = region("table vectors")
        assert [row[0] for row in rows(text)] == [golden.vector.name for golden in GOLDEN]
        dump = text.split("```")[1].removeprefix("text\n")
        name = ""
        octets: dict[str, bytes] = {}
        for line in dump.splitlines():
            name = line[:5].strip() or name
            octets[name] = octets.get(name, b"") + bytes.fromhex(line[5:])
        assert octets == {golden.vector.name: golden.vector.octets for golden in GOLDEN}

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (0, "0"),
            (999, "999"),
            (65_536, "65,536"),
            (2**31, "2,147,483,648"),
            (2**32, "2^32"),
            (2**32 - 1, "2^32 - 1"),
            (2**40 - 2, "2^40 - 2"),
            (2**40 - 3, "1,099,511,627,773"),
            (2**40 + 1, "1,099,511,627,777"),
        ],
    )
    def test_numbers(self, value: int, text: str) -> None:
        assert tables.number(value) == text

    def test_a_bar_in_a_cell_is_escaped(self) -> None:
        assert tables.markdown(("a",), [["x|y"]]) == "| a |\n|---|\n| x\\|y |"


class TestErrors:
    def test_every_rule_is_a_row(self) -> None:
        table, legend = region("table errors").split("\n\n")
        assert [row[:3] for row in rows(table)] == [
            [rule.requirement, rule.fault, rule.code or "none"] for rule in SPEC.errors
        ]
        explained = {row[0] for row in rows(legend)}
        ends = {end.rpartition(": ")[2] for row in rows(table) for end in row[3].split("; ")}
        assert ends == explained

    def test_a_condition_stands_before_its_end(self) -> None:
        (row,) = [row for row in rows(region("table errors")) if row[0] == "HSK-008"]
        assert row[3] == (
            "general; worker, before a valid preface: silent; "
            "client, before a valid preface: no goaway"
        )


class TestClasses:
    def test_the_rows_are_in_the_order_of_the_test(self) -> None:
        found = rows(region("table classes"))
        assert [row[0] for row in found] == [
            "NOT_SENT",
            "FAILED",
            "PARTIAL",
            "NOT_PROCESSED",
            "AMBIGUOUS",
        ]
        assert found[-1][2] == "only if IDEMPOTENT"


class TestMachines:
    @pytest.mark.parametrize("machine", SPEC.machines, ids=lambda machine: machine.name)
    def test_the_matrix_has_every_cell(self, machine: ir.Machine) -> None:
        matrix, _, legend = region(f"machine {machine.name.lower().replace('_', '-')}").split(
            "\n\n"
        )
        assert matrix.startswith(f"| input | {' | '.join(machine.states)} |")
        found = rows(matrix)
        assert [row[0] for row in found] == [doc for _, doc in machine.inputs]
        cells = {(row.state, row.input): row for row in machine.rows}
        explained = {row[0] for row in rows(legend)}
        for (name, _), (_, *line) in zip(machine.inputs, found, strict=True):
            for state, cell in zip(machine.states, line, strict=True):
                row = cells[state, name]
                if row.breach is not None:
                    assert cell == f"CE({row.breach.code}, {row.breach.requirement})"
                    continue
                said, _, id_ = cell.removesuffix(")").partition(" (")
                effect, _, target = said.partition(" → ")
                assert id_ == row.requirement
                assert effect.upper().replace(" ", "_") == row.effect
                assert (target or state) == row.next
                assert effect in explained
