"""The drift check: clean on the tree, and one line for each file that is not as it should be."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from muxwire_spec import generated
from muxwire_spec.spec import load_spec

FOLDERS = ("spec/text", *generated.OWNED)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pristine")
    for folder in FOLDERS:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(generated.ROOT / folder, root / folder, ignore=ignore)
    return root


@pytest.fixture
def root(pristine: Path, tmp_path: Path) -> Path:
    shutil.copytree(pristine, tmp_path, dirs_exist_ok=True)
    return tmp_path


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


ONE_OF_EACH = (
    "reference/muxwire/_generated/codec.py",
    "spec/muxwire_spec/data/spec.json",
    "spec/muxwire_spec/data/requirements.json",
    "spec/muxwire_spec/data/wmx-driver-1.schema.json",
    "spec/vectors/frames.json",
    "spec/vectors/README.md",
    "spec/vectors/streams/golden.json",
)


def test_the_tree_is_clean() -> None:
    assert generated.check() == []


def test_the_copy_is_clean_and_stays_as_it_is(root: Path) -> None:
    before = contents(root)
    assert generated.check(root) == []
    assert generated.write(root) == []
    assert contents(root) == before


def test_owned_folders_contain_all_generated_files_but_the_prose() -> None:
    paths = generated.expected()
    assert set(ONE_OF_EACH) <= set(paths)
    for path in paths:
        assert path.startswith(tuple(f"{folder}/" for folder in FOLDERS))


@pytest.mark.parametrize("path", ONE_OF_EACH)
class TestOneFile:
    def test_edited(self, root: Path, path: str) -> None:
        file = root / path
        good = file.read_bytes()
        lines = good.split(b"\n")
        lines[2] += b" "
        file.write_bytes(b"\n".join(lines))
        assert generated.check(root) == [f"{path}: differs from the specification at line 3"]
        assert generated.write(root) == [path]
        assert file.read_bytes() == good

    def test_one_octet_more(self, root: Path, path: str) -> None:
        file = root / path
        file.write_bytes(file.read_bytes() + b"\n")
        assert generated.check(root) == [f"{path}: differs from the specification at its end"]

    def test_removed(self, root: Path, path: str) -> None:
        file = root / path
        good = file.read_bytes()
        file.unlink()
        assert generated.check(root) == [f"{path}: missing"]
        assert generated.write(root) == [path]
        assert file.read_bytes() == good

    def test_added(self, root: Path, path: str) -> None:
        stray = Path(path).with_name("stray.txt").as_posix()
        (root / stray).write_bytes(b"")
        assert generated.check(root) == [f"{stray}: no emitter makes this file"]
        assert generated.write(root) == [stray]
        assert not (root / stray).exists()


class TestProse:
    def test_an_edit_inside_a_region(self, root: Path) -> None:
        chapter = root / "spec/text/02-framing.md"
        good = chapter.read_bytes()
        chapter.write_bytes(good.replace(b"| marker = 0xF7 |", b"| marker = 0xF8 |"))
        line = good[: good.index(b"| marker")].count(b"\n") + 1
        assert generated.check(root) == [
            f"spec/text/02-framing.md: differs from the specification at line {line}"
        ]
        assert generated.write(root) == ["spec/text/02-framing.md"]
        assert chapter.read_bytes() == good

    def test_a_region_that_was_never_filled(self, root: Path) -> None:
        chapter = root / "spec/text/20-vectors.md"
        good = chapter.read_bytes()
        start = good.index(b" -->\n") + 5
        chapter.write_bytes(good[:start] + good[good.index(b"<!-- /generated") :])
        assert generated.write(root) == ["spec/text/20-vectors.md"]
        assert chapter.read_bytes() == good

    def test_an_edit_outside_of_regions_is_no_drift(self, root: Path) -> None:
        chapter = root / "spec/text/20-vectors.md"
        chapter.write_bytes(chapter.read_bytes() + b"\nOne more sentence.\n")
        assert generated.check(root) == []

    def test_a_changed_requirement_changes_the_data(self, root: Path) -> None:
        chapter = root / "spec/text/02-framing.md"
        text = chapter.read_bytes()
        chapter.write_bytes(text.replace(b"always with the same effect", b"with the same effect"))
        (problem,) = generated.check(root)
        assert problem.startswith("spec/muxwire_spec/data/requirements.json: differs")
        assert generated.write(root) == ["spec/muxwire_spec/data/requirements.json"]

    def test_filled_regions_move_requirements_in_one_run(self, root: Path) -> None:
        chapter = root / "spec/text/03-types.md"
        before = contents(root)
        text = chapter.read_text(encoding="utf-8")
        start = text.index("-->\n", text.index("table frames")) + 4
        chapter.write_text(text[:start] + text[text.index("<!-- /generated", start) :], "utf-8")
        assert generated.write(root) == ["spec/text/03-types.md"]
        assert contents(root) == before

    def test_lint_is_part_of_the_check(self, root: Path) -> None:
        chapter = root / "spec/text/20-vectors.md"
        chapter.write_bytes(b"You " + b"MUST" + b" not.\n" + chapter.read_bytes())
        (problem,) = generated.check(root)
        assert problem == (
            "spec/text/20-vectors.md:1: MUST in capitals outside a requirement block"
        )

    @pytest.mark.parametrize(
        ("octets", "problem"),
        [
            (b"> A quotation.\n", "spec/text/99-changes.md:1: not a requirement block"),
            (
                b"<!-- generated: table nothing -->\n<!-- /generated -->\n",
                "spec/text/99-changes.md:1: unknown generated region 'table nothing'",
            ),
            (
                b"<!-- generated: table frames -->\n",
                "spec/text/99-changes.md:1: generated region 'table frames' is not closed",
            ),
        ],
    )
    def test_what_cannot_be_read_is_one_line(self, root: Path, octets: bytes, problem: str) -> None:
        (root / "spec/text/99-changes.md").write_bytes(octets)
        before = contents(root)
        (found,) = generated.check(root)
        assert found.startswith(problem)
        with pytest.raises(generated.TextError):
            generated.write(root)
        assert contents(root) == before


class TestChangedSpecification:
    @pytest.fixture(autouse=True)
    def _another_value(self, monkeypatch: pytest.MonkeyPatch) -> None:
        spec = load_spec()
        first, *others = spec.constants
        changed = dataclasses.replace(first, value=first.value + 1)
        other = dataclasses.replace(spec, constants=(changed, *others))
        monkeypatch.setattr(generated, "load_spec", lambda: other)

    def test_every_file_that_shows_it_differs(self, root: Path) -> None:
        paths = {problem.partition(":")[0] for problem in generated.check(root)}
        assert paths == {
            "reference/muxwire/_generated/codec.py",
            "reference/muxwire/_generated/registries.py",
            "spec/muxwire_spec/data/spec.json",
            "spec/text/00-overview.md",
        }

    def test_emit_repairs(self, root: Path) -> None:
        assert len(generated.write(root)) == 4
        assert generated.check(root) == []


def test_everything_is_made_anew_from_the_prose_alone(root: Path) -> None:
    before = contents(root)
    for folder in generated.OWNED:
        shutil.rmtree(root / folder)
    assert len(generated.check(root)) == len(before) - len(list((root / "spec/text").iterdir()))
    generated.write(root)
    assert contents(root) == before
