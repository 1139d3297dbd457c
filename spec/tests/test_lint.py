from __future__ import annotations

from pathlib import Path

import pytest
from muxwire_spec.lint import Problem, ids_cited, lint

SPEC = Path(__file__).resolve().parents[1]

BLOCK = "> **HSK-001** MUST · client · wire\n> It MUST, see HSK-001.\n"
UNKNOWN = f"HSK-{999}"
"""Composed, so that a scan of this file does not find it."""


def problems(tmp_path: Path, prose: str) -> list[tuple[int, str]]:
    """Lint one chapter made of a block and, from line 4 on, `prose`."""
    (tmp_path / "01-x.md").write_text(f"{BLOCK}\n{prose}\n", encoding="utf-8")
    found = lint(tmp_path)
    assert {problem.file for problem in found} <= {"01-x.md"}
    return [(problem.line, problem.text) for problem in found]


class TestKeyWords:
    @pytest.mark.parametrize(
        "word", ["MUST", "SHALL", "SHOULD", "REQUIRED", "RECOMMENDED", "MAY", "OPTIONAL"]
    )
    def test_in_prose(self, tmp_path: Path, word: str) -> None:
        found = problems(tmp_path, f"Peers {word} not.")
        assert found == [(4, f"{word} in capitals outside a requirement block")]

    @pytest.mark.parametrize(
        "prose",
        [
            "Peers must, may and should.",
            "The level is `MUST` or ``MUST ` NOT``.",
            "```\nMUST\n```",
            "~~~text\nPeers SHOULD.\n~~~",
            "MUSTARD, DISMAY and MAYBE.",
        ],
    )
    def test_allowed(self, tmp_path: Path, prose: str) -> None:
        assert problems(tmp_path, prose) == []

    def test_text_between_two_spans_counts(self, tmp_path: Path) -> None:
        assert [line for line, _ in problems(tmp_path, "`a` MUST `b`")] == [4]

    def test_each_occurrence_is_reported(self, tmp_path: Path) -> None:
        assert [line for line, _ in problems(tmp_path, "MUST or MAY\n\nSHALL")] == [4, 4, 6]


class TestIds:
    @pytest.mark.parametrize("identifier", [UNKNOWN, f"ABC-{1:03}"])
    def test_unknown(self, tmp_path: Path, identifier: str) -> None:
        assert problems(tmp_path, f"See {identifier}.") == [(4, f"{identifier} does not exist")]

    def test_unknown_inside_a_block(self, tmp_path: Path) -> None:
        prose = f"> **HSK-002** MUST · worker · wire\n> As {UNKNOWN}."
        assert problems(tmp_path, prose) == [(5, f"{UNKNOWN} does not exist")]

    @pytest.mark.parametrize(
        "prose", ["HSK-001.", f"`{UNKNOWN}`", "SHA-256", f"X{UNKNOWN}", f"{UNKNOWN}9", "UTF-8"]
    )
    def test_allowed(self, tmp_path: Path, prose: str) -> None:
        assert problems(tmp_path, prose) == []


class TestLongDashes:
    @pytest.mark.parametrize(
        ("character", "name"),
        [("\u2013", "en dash"), ("\u2014", "em dash"), ("\u2015", "horizontal bar")],
    )
    @pytest.mark.parametrize("form", ["a {} b", "`{}`", "```\n{}\n```"])
    def test_anywhere(self, tmp_path: Path, form: str, character: str, name: str) -> None:
        ((line, text),) = problems(tmp_path, form.format(character))
        assert line == 4 + form[: form.index("{")].count("\n")
        assert text == f"{name} (U+{ord(character):04X})"

    def test_hyphens_and_minus_are_fine(self, tmp_path: Path) -> None:
        assert problems(tmp_path, "a - b, 2^32 - 1, well-known") == []


class TestRegions:
    def test_closed(self, tmp_path: Path) -> None:
        prose = "<!-- generated: table x -->\n```\nbits\n```\n<!-- /generated -->\n"
        assert problems(tmp_path, prose + prose) == []

    def test_never_closed(self, tmp_path: Path) -> None:
        found = problems(tmp_path, "<!-- generated: table x -->\nrow")
        assert found == [(4, "generated region 'table x' is not closed")]

    def test_next_one_opens_first(self, tmp_path: Path) -> None:
        prose = "<!-- generated: a -->\n<!-- generated: b -->\n<!-- /generated -->"
        assert problems(tmp_path, prose) == [(4, "generated region 'a' is not closed")]

    def test_end_without_beginning(self, tmp_path: Path) -> None:
        found = problems(tmp_path, "<!-- /generated -->")
        assert found == [(4, "end of a generated region without a beginning")]

    def test_markers_quoted_in_a_fence_are_text(self, tmp_path: Path) -> None:
        assert problems(tmp_path, "```\n<!-- generated: x -->\n```") == []


class TestUnparsableText:
    def test_is_one_problem_and_other_checks_go_on(self, tmp_path: Path) -> None:
        found = problems(tmp_path, f"> just a quote\n\nPeers MUST read {UNKNOWN}.")
        assert [line for line, _ in found] == [4, 6]
        assert "not a requirement block" in found[0][1]
        assert "MUST" in found[1][1]

    def test_empty_folder(self, tmp_path: Path) -> None:
        (problem,) = lint(tmp_path)
        assert problem.line == 0
        assert "no requirement blocks" in problem.text

    def test_problems_print_like_those_of_a_compiler(self) -> None:
        assert str(Problem(file="a.md", line=3, text="wrong")) == "a.md:3: wrong"


class TestIdsCited:
    def test_files_and_folders(self, tmp_path: Path) -> None:
        package = tmp_path / "package"
        package.mkdir()
        one = package / "one.py"
        one.write_text("# FRM-002, HSK-001\nx = 'FRM-002 FRM-002'\n", encoding="utf-8")
        (package / "notes.md").write_text("FRM-003", encoding="utf-8")
        two = tmp_path / "two.txt"
        two.write_text(f"\n{UNKNOWN}", encoding="utf-8")
        found = ids_cited([package, two])
        assert found == {
            "FRM-002": [(str(one), 1), (str(one), 2)],
            "HSK-001": [(str(one), 1)],
            UNKNOWN: [(str(two), 2)],
        }
        assert list(found) == sorted(found)

    @pytest.mark.parametrize("text", ["SHA-256", f"ABC-{1:03}", f"{UNKNOWN}0", f"X{UNKNOWN}"])
    def test_other_names_do_not_count(self, tmp_path: Path, text: str) -> None:
        source = tmp_path / "a.py"
        source.write_text(f"# {text}\n", encoding="utf-8")
        assert ids_cited([source]) == {}

    def test_underscores_and_slashes_end_an_id(self, tmp_path: Path) -> None:
        source = tmp_path / "a.py"
        source.write_text("FRM-003/HSK-002: FRM-001.\n", encoding="utf-8")
        assert list(ids_cited([source])) == ["FRM-001", "FRM-003", "HSK-002"]


def test_the_specification_is_clean() -> None:
    assert lint(SPEC / "text") == []
