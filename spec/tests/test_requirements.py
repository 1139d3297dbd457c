from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from muxwire_spec import requirements
from muxwire_spec.requirements import (
    AREAS,
    Requirement,
    RequirementError,
    checksum,
    from_json,
    load,
    parse,
    parse_text,
    to_json,
)

TEXT = Path(__file__).resolve().parents[1] / "text"

LAST_OF_AREA = {
    "HSK": 11,
    "FRM": 13,
    "TYP": 6,
    "PAY": 8,
    "SET": 5,
    "RID": 5,
    "STM": 6,
    "MSG": 4,
    "FAI": 6,
    "FLW": 13,
    "CAN": 6,
    "ADM": 5,
    "HBT": 7,
    "DOS": 4,
    "CLS": 11,
    "REC": 10,
    "OBS": 6,
    "SEC": 3,
    "P0": 20,
    "P1": 24,
}
ALL_IDS = {f"{area}-{n:03}" for area, last in LAST_OF_AREA.items() for n in range(1, last + 1)}

GOOD = """\
# 1. Title

Prose.

> **FLW-004** MUST · sender · wire
> Exempt frames are sent
>   regardless of windows.

More prose.

> **FAI-006** SHOULD · sender, receiver · none: no trace in the stream
> Batches.
"""


@pytest.fixture
def chapter_dir(tmp_path: Path) -> Path:
    (tmp_path / "01-first.md").write_text(GOOD, encoding="utf-8")
    return tmp_path


def block(head: str, text: str = "> A rule.") -> str:
    return f"{head}\n{text}\n"


class TestGoodText:
    def test_fields(self, chapter_dir: Path) -> None:
        first, second = parse(chapter_dir)
        assert first == Requirement(
            id="FLW-004",
            level="MUST",
            parties=("sender",),
            observability="wire",
            reason="",
            text="Exempt frames are sent regardless of windows.",
            checksum=first.checksum,
            file="01-first.md",
            line=5,
        )
        assert first.area == "FLW"
        assert second.parties == ("sender", "receiver")
        assert (second.observability, second.reason) == ("none", "no trace in the stream")
        assert second.line == 11

    def test_order_is_that_of_file_names(self, chapter_dir: Path) -> None:
        earlier = block("> **HSK-001** MUST · client · wire")
        (chapter_dir / "00-zero.md").write_text(earlier, encoding="utf-8")
        (chapter_dir / "notes.md").write_text("> any quote", encoding="utf-8")
        assert [entry.id for entry in parse(chapter_dir)] == ["HSK-001", "FLW-004", "FAI-006"]

    def test_block_at_end_of_file_without_newline(self) -> None:
        (only,) = parse_text("\n> **HSK-001** MUST · client · wire\n> Rule.", "f.md")
        assert (only.line, only.text) == (2, "Rule.")

    def test_quotes_in_fences_are_not_blocks(self) -> None:
        fenced = "```\n> **HSK-001** nonsense\n```\n~~~~ text\n> too\n~~~\n> still\n~~~~\n"
        assert parse_text(fenced, "f.md") == []

    def test_fence_that_is_never_closed_runs_to_the_end(self) -> None:
        assert parse_text("```\n> quote\n", "f.md") == []

    def test_levels_of_two_words(self) -> None:
        (only,) = parse_text(block("> **HBT-007** MUST NOT · endpoint · wire"), "f.md")
        assert only.level == "MUST NOT"

    def test_a_reason_may_contain_dots_and_colons(self) -> None:
        (only,) = parse_text(block("> **HSK-001** MUST · client · none: a · b: c"), "f.md")
        assert only.reason == "a · b: c"

    def test_an_empty_quote_line_separates_paragraphs_of_one_block(self) -> None:
        (only,) = parse_text(block("> **HSK-001** MUST · client · wire", "> A.\n>\n> B."), "f.md")
        assert only.text == "A. B."


class TestChecksum:
    def test_is_the_documented_digest(self, chapter_dir: Path) -> None:
        first = parse(chapter_dir)[0]
        said = "FLW-004\nMUST\nsender\nwire\nExempt frames are sent regardless of windows."
        assert first.checksum == hashlib.sha256(said.encode()).hexdigest()[:16]

    def test_ignores_wrapping_place_and_reason(self) -> None:
        one = parse_text(block("> **HSK-001** MUST · client · none: x", "> A b\n> c."), "f.md")
        two = parse_text(
            "\n\n" + block("> **HSK-001** MUST · client · none: y", "> A\n> b c."), "g"
        )
        assert one[0].checksum == two[0].checksum

    @pytest.mark.parametrize(
        "changed",
        [
            ("HSK-002", "MUST", ("client",), "wire", "A."),
            ("HSK-001", "SHOULD", ("client",), "wire", "A."),
            ("HSK-001", "MUST", ("client", "worker"), "wire", "A."),
            ("HSK-001", "MUST", ("client",), "api", "A."),
            ("HSK-001", "MUST", ("client",), "wire", "A!"),
        ],
    )
    def test_depends_on_everything_else(
        self, changed: tuple[str, str, tuple[str, ...], str, str]
    ) -> None:
        assert checksum(*changed) != checksum("HSK-001", "MUST", ("client",), "wire", "A.")


class TestErrors:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            pytest.param("> A quotation.", "not a requirement block", id="plain-quote"),
            pytest.param("> *HSK-001* MUST · client · wire", "not a requirement", id="emphasis"),
            pytest.param(">**HSK-001** MUST · client · wire", "not a requirement", id="no-space"),
            pytest.param("> **HSK-1** MUST · client · wire", "not a requirement id", id="short-id"),
            pytest.param("> **XYZ-001** MUST · client · wire", "known area", id="unknown-area"),
            pytest.param("> **HSK-001** MUST · client", "middle dot", id="two-parts"),
            pytest.param("> **HSK-001**", "middle dot", id="id-only"),
            pytest.param("> **HSK-001** MUST - client - wire", "middle dot", id="hyphens"),
            pytest.param("> **HSK-001** must · client · wire", "level 'must'", id="level"),
            pytest.param("> **HSK-001** MUST · server · wire", "party 'server'", id="party"),
            pytest.param("> **HSK-001** MUST ·  · wire", "party ''", id="no-party"),
            pytest.param("> **HSK-001** MUST · client · seen", "'seen'", id="observability"),
            pytest.param("> **HSK-001** MUST · client · none", "without a reason", id="none"),
            pytest.param("> **HSK-001** MUST · client · none: ", "without a reason", id="none2"),
            pytest.param("> **HSK-001** MUST · client · wire: x", "only 'none'", id="reason"),
        ],
    )
    def test_malformed_head(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "01-x.md").write_text("# T\n\n" + block(text), encoding="utf-8")
        with pytest.raises(RequirementError, match=rf"^01-x\.md:3: .*{message}"):
            parse(tmp_path)

    @pytest.mark.parametrize("text", ["", ">", "> \n>  "])
    def test_empty_text(self, text: str) -> None:
        with pytest.raises(RequirementError, match=r"^f\.md:1: HSK-001 has no text$"):
            parse_text(block("> **HSK-001** MUST · client · wire", text), "f.md")

    def test_two_blocks_without_a_gap(self) -> None:
        head = "> **HSK-001** MUST · client · wire"
        text = f"{head}\n> One.\n> **HSK-002** MUST · worker · wire\n> Two.\n"
        with pytest.raises(RequirementError, match=r"^f\.md:3: .*inside HSK-001"):
            parse_text(text, "f.md")

    def test_duplicate_in_another_file(self, chapter_dir: Path) -> None:
        again = "\n" + block("> **FLW-004** MUST · sender · wire")
        (chapter_dir / "02-second.md").write_text(again, encoding="utf-8")
        with pytest.raises(
            RequirementError, match=r"^02-second\.md:2: FLW-004 .*twice.* 01-first\.md:5$"
        ):
            parse(chapter_dir)

    def test_a_folder_without_blocks_is_not_an_empty_specification(self, tmp_path: Path) -> None:
        (tmp_path / "01-x.md").write_text("Only prose.\n", encoding="utf-8")
        with pytest.raises(RequirementError, match="no requirement blocks"):
            parse(tmp_path)


class TestJson:
    def test_round_trip(self, chapter_dir: Path) -> None:
        entries = parse(chapter_dir)
        assert from_json(to_json(entries)) == entries

    def test_form(self, chapter_dir: Path) -> None:
        data = to_json(parse(chapter_dir))
        assert data == to_json(parse(chapter_dir))
        assert data.endswith(b"}\n]\n")
        assert data.startswith(b'[\n {\n  "id": "FLW-004",\n')
        assert [row["id"] for row in json.loads(data)] == ["FLW-004", "FAI-006"]

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"{}x",
            b"[1]",
            b'[{"id": "HSK-001"}]',
            b'[{"id": "HSK-001", "parties": [], "unknown": 1}]',
            b"\xff",
        ],
    )
    def test_damaged(self, data: bytes) -> None:
        with pytest.raises(RequirementError, match=r"^requirements\.json: "):
            from_json(data)

    def test_edited_by_hand(self, chapter_dir: Path) -> None:
        data = to_json(parse(chapter_dir)).replace(b"regardless of", b"according to")
        with pytest.raises(RequirementError, match="checksum of FLW-004"):
            from_json(data)


class TestPackagedData:
    def test_load_gives_an_ordered_dict_by_id(self) -> None:
        loaded = load()
        assert list(loaded) == [entry.id for entry in loaded.values()]
        assert loaded["FLW-004"].area == "FLW"

    def test_callers_do_not_share_the_dict(self) -> None:
        load().clear()
        assert load()

    def test_missing_file(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr("importlib.resources.files", lambda _package: tmp_path)
        requirements._packaged.cache_clear()
        try:
            with pytest.raises(RequirementError, match="missing from the package"):
                load()
        finally:
            requirements._packaged.cache_clear()


class TestTheSpecification:
    def test_ids_are_exactly_the_planned_ones(self) -> None:
        assert {entry.id for entry in parse(TEXT)} == ALL_IDS

    def test_areas(self) -> None:
        assert tuple(LAST_OF_AREA) == AREAS
        seen = dict.fromkeys(entry.area for entry in parse(TEXT))
        assert set(seen) == set(AREAS)

    def test_one_area_per_chapter(self) -> None:
        files: dict[str, set[str]] = {}
        for entry in parse(TEXT):
            files.setdefault(entry.area, set()).add(entry.file)
        assert {area: len(names) for area, names in files.items()} == dict.fromkeys(AREAS, 1)

    def test_must_not_texts_say_so(self) -> None:
        """A text quoted without its head line would otherwise read as the opposite."""
        for entry in parse(TEXT):
            if entry.level == "MUST NOT":
                assert "MUST NOT" in entry.text, entry.id

    def test_packaged_data_fits_the_text(self) -> None:
        assert list(load().values()) == parse(TEXT)
