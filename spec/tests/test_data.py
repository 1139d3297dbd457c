"""The IR as JSON: complete, stable, and described."""

from __future__ import annotations

import dataclasses
import json
from importlib import resources
from typing import Any, get_args

import pytest
from muxwire_spec import model as ir
from muxwire_spec.emit.data import emit_requirements, emit_spec
from muxwire_spec.requirements import RequirementError, from_json
from muxwire_spec.spec import load_spec

FILES = emit_spec(load_spec())
DATA: dict[str, Any] = json.loads(FILES["spec/muxwire_spec/data/spec.json"])
README = FILES["spec/muxwire_spec/data/README.md"].decode()
FORMS = [value for value in vars(ir).values() if dataclasses.is_dataclass(value)]


def names(form: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(form)]


def same(value: Any, found: Any) -> bool:
    """Compare a value of the IR with its JSON, member by member."""
    if dataclasses.is_dataclass(value):
        kind = {"node": type(value).__name__} if isinstance(value, get_args(ir.Node)) else {}
        members = {name: getattr(value, name) for name in names(value)}
        return list(found) == list(kind | members) and all(
            same(expected, found[name]) for name, expected in (kind | members).items()
        )
    if isinstance(value, tuple):
        return len(value) == len(found) and all(map(same, value, found))
    return bool(found == (value.hex() if isinstance(value, bytes) else value))


def test_the_json_says_what_the_ir_says() -> None:
    assert same(load_spec(), DATA)


def test_an_example_of_every_level() -> None:
    (header,) = [layout for layout in DATA["layouts"] if layout["name"] == "HEADER"]
    assert header["fields"][0] == {
        "name": "marker",
        "doc": "0xF7, never text",
        "node": {
            "node": "Const",
            "base": {"node": "UInt", "bits": 8},
            "value": 0xF7,
            "breach": {
                "code": "PROTOCOL_ERROR",
                "scope": "connection",
                "requirement": "FRM-002",
            },
        },
    }
    assert DATA["magic"] == "f7574d580d0a1a0a"
    assert DATA["machines"][0]["inputs"][0] == ["OPEN", "REQUEST seq 0 without END_STREAM"]


def test_the_output_is_stable() -> None:
    assert emit_spec(load_spec()) == FILES


def test_the_package_contains_it() -> None:
    packaged = resources.files("muxwire_spec").joinpath("data/spec.json").read_bytes()
    assert json.loads(packaged) == DATA


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_every_form_is_described(form: Any) -> None:
    _, _, section = README.partition(f"\n## {form.__name__}\n")
    section = section.partition("\n## ")[0]
    described = [line.split("`")[1] for line in section.split("\n") if line.startswith("- `")]
    node = ["node"] if form in get_args(ir.Node) else []
    assert described == node + names(form)
    assert "tuple" not in section
    assert "None" not in section


def test_requirements_come_from_the_texts_given() -> None:
    texts = {"01-a.md": "> **HSK-001** MUST · client · wire\n> A rule.\n", "02-b.md": "No rule.\n"}
    (only,) = from_json(emit_requirements(texts)["spec/muxwire_spec/data/requirements.json"])
    assert (only.id, only.file, only.line) == ("HSK-001", "01-a.md", 1)
    with pytest.raises(RequirementError, match=r"^02-b\.md:1: HSK-001 is defined twice"):
        emit_requirements(texts | {"02-b.md": texts["01-a.md"]})
