"""Selection: what people type, and what they mistype."""

from __future__ import annotations

import pytest
from engine_fakes import make_case
from muxwire_conformance.context import Context
from muxwire_conformance.selection import SelectionError, select


async def nothing(_ctx: Context) -> None:
    pass


ALL = [
    make_case(nothing, id, title=title)
    for id, title in {
        "FRM-002/bad-marker": "A wrong marker is an error.",
        "FRM-002/good-marker": "The right marker works.",
        "FRM-012/grease": "A worker greases.",
        "HSK-002/http-request": "HTTP is dropped.",
        "SET-001/frame-size": "A value out of range is an error.",
    }.items()
]


def chosen(*patterns: str, **filters: object) -> list[str]:
    return [one.id for one in select(ALL, patterns=patterns, **filters)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("patterns", "ids"),
    [
        ([], [one.id for one in ALL]),
        (["FRM-002/bad-marker"], ["FRM-002/bad-marker"]),
        (["frm-002/BAD-marker"], ["FRM-002/bad-marker"]),
        (["FRM-002"], ["FRM-002/bad-marker", "FRM-002/good-marker"]),
        (["HSK"], ["HSK-002/http-request"]),
        (["*/bad-*", "SET"], ["FRM-002/bad-marker", "SET-001/frame-size"]),
        (["???-002/*"], ["FRM-002/bad-marker", "FRM-002/good-marker", "HSK-002/http-request"]),
        (["XYZ*"], []),
    ],
)
def test_patterns(patterns: list[str], ids: list[str]) -> None:
    assert chosen(*patterns) == ids


@pytest.mark.parametrize(
    ("expression", "ids"),
    [
        ("marker", ["FRM-002/bad-marker", "FRM-002/good-marker"]),
        ("marker and not bad", ["FRM-002/good-marker"]),
        ("(http or grease) and not greases", ["HSK-002/http-request"]),
        ("ERROR", ["FRM-002/bad-marker", "SET-001/frame-size"]),
        ("not (marker or error)", ["FRM-012/grease", "HSK-002/http-request"]),
        ("HSK-002/http", ["HSK-002/http-request"]),
        ("nothing-like-it", []),
    ],
)
def test_expressions(expression: str, ids: list[str]) -> None:
    assert chosen(expression=expression) == ids


@pytest.mark.parametrize("expression", ["", "and", "a b", "(a", "a)", "not", "a or", "()"])
def test_bad_expressions(expression: str) -> None:
    with pytest.raises(SelectionError, match="-k"):
        chosen(expression=expression)


def test_areas_and_levels() -> None:
    assert chosen(areas=["FRM,SET"]) == [one.id for one in ALL if one.area in ("FRM", "SET")]
    assert chosen(areas=["hsk", "SET"]) == ["HSK-002/http-request", "SET-001/frame-size"]
    assert chosen(level="should") == ["FRM-012/grease"]
    assert len(chosen(level="must")) == 4
    with pytest.raises(SelectionError, match="areas: FRM, HSK, SET"):
        chosen(areas=["FRN"])


def test_paths() -> None:
    ids = ("P0-001/accepted", "P1-001/events", "HSK-001/preface")
    cases = [make_case(nothing, id) for id in ids]

    def by(*paths: str) -> list[str]:
        return [one.id for one in select(cases, paths=paths)]

    assert by() == sorted(ids)
    assert by("tcp") == ["HSK-001/preface"]
    assert by("callhome,HTTP") == ["P0-001/accepted", "P1-001/events"]
    assert by("http", "tcp") == ["HSK-001/preface", "P1-001/events"]
    with pytest.raises(SelectionError, match="paths: tcp, callhome, http"):
        by("udp")


def test_unknown_ids_name_their_neighbours() -> None:
    with pytest.raises(SelectionError, match="did you mean FRM-002/bad-marker"):
        chosen("FRM-002/bad-maker")
    with pytest.raises(SelectionError, match="there is no case 'zzzzzz'"):
        chosen("zzzzzz")
