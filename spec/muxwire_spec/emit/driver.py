"""Emit the driver protocol: its grammar for the prose, and its JSON Schema (draft 2020-12)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from muxwire_spec import driver
from muxwire_spec.driver import Line, Member
from muxwire_spec.emit.tables import markdown

PATH = "spec/muxwire_spec/data/wmx-driver-1.schema.json"

_WIDTH = 110


# --- prose ----------------------------------------------------------------------------------


def grammar() -> str:
    """Return the grammar of operations and events, and the legend of the names in it."""
    blocks = [_block(driver.OPERATIONS, "op"), _block(driver.EVENTS, "event"), _legend()]
    return "```text\n" + "\n\n".join(blocks) + "\n```"


def _block(lines: tuple[Line, ...], key: str) -> str:
    names = [line.name for line in lines]
    width = max(map(len, names))
    head = _packed(f"{key:{width}} = ", _alternatives(names))
    return "\n".join((head, *(_line(line, width) for line in lines)))


def _line(line: Line, width: int) -> str:
    parts = [f'"{line.key}": "{line.name}"', *map(_member, line.members)]
    words = [f"{part}," for part in parts[:-1]] + [parts[-1] + "}"]
    return _packed(f"{line.name:{width}} = {{", words)


def _member(member: Member) -> str:
    text = f'{"?" * member.optional}"{member.name}": {member.type}'
    return f"{text} ({member.default})" if member.default else text


def _packed(start: str, words: Iterable[str]) -> str:
    """Join words into lines; those after the first are indented by the length of `start`."""
    lines, room = [start], len(start)
    for word in words:
        if len(lines[-1]) > room and len(lines[-1]) + 1 + len(word) > _WIDTH:
            lines.append(" " * room)
        lines[-1] += word if len(lines[-1]) == room else f" {word}"
    return "\n".join(lines)


def _legend() -> str:
    names = {name: doc.split(" ") for name, (doc, _) in driver.TYPES.items() if doc}
    for name, values in driver.SETS.items():
        names[name] = _alternatives([f'"{value}"' for value in values])
    names["NAME"] = _alternatives(driver.NAMES)
    width = max(map(len, names))
    return "\n".join(_packed(f"{name:{width}} = ", words) for name, words in names.items())


def _alternatives(names: Sequence[str]) -> list[str]:
    return [*(f"{name} /" for name in names[:-1]), names[-1]]


def features() -> str:
    """Return the table of features."""
    rows = (
        (name, feature.covers, ", ".join(feature.transports))
        for name, feature in driver.FEATURES.items()
    )
    return markdown(("feature", "what it covers", "transports"), rows)


# --- schema -----------------------------------------------------------------------------------


def emit(*_: object) -> dict[str, bytes]:
    """Return the JSON Schema of a line."""
    text = json.dumps(schema(), indent=1)
    return {PATH: f"{text}\n".encode()}


def schema() -> dict[str, Any]:
    """Return the JSON Schema; its definitions `op` and `event` are the two directions."""
    simple = {name: form for name, (_, form) in driver.TYPES.items()}
    sets = {name: {"enum": list(values)} for name, values in driver.SETS.items()}
    both = (("op", driver.OPERATIONS), ("event", driver.EVENTS))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:muxwire:wmx-driver-1",
        "title": f"One line of {driver.PROTOCOL}",
        "anyOf": [_reference(key) for key, _ in both],
        "$defs": {
            **{key: {"oneOf": [_reference(line.name) for line in lines]} for key, lines in both},
            **{line.name: _object(line) for _, lines in both for line in lines},
            **simple,
            **sets,
        },
    }


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}


def _object(line: Line) -> dict[str, Any]:
    members = {line.key: {"const": line.name}}
    members |= {member.name: _type(member.type) for member in line.members}
    needed = [line.key, *(member.name for member in line.members if not member.optional)]
    form: dict[str, Any] = {"type": "object", "properties": members, "required": needed}
    pairs = {frozenset((m.name, m.excludes)) for m in line.members if m.excludes}
    if pairs:
        form["allOf"] = [{"not": {"required": sorted(pair)}} for pair in sorted(pairs, key=sorted)]
    return form


def _type(text: str) -> dict[str, Any]:
    """Return the schema of a type, by the words of `driver`.

    Raises:
        KeyError: no table has the name.
    """
    if text.endswith(" or null"):
        return {"anyOf": [_type(text.removesuffix(" or null")), {"type": "null"}]}
    if text.startswith("{?NAME: "):
        inner = _type(text.removeprefix("{?NAME: ").removesuffix(", ...}"))
        return {"type": "object", "properties": dict.fromkeys(driver.NAMES, inner)}
    if text.startswith("[") and text.endswith(", ...]"):
        return {"type": "array", "items": _type(text[1:].removesuffix(", ...]"))}
    if text.startswith("["):
        first, second = text[1:-1].split(", ")
        pair = [_type(first), _type(second)]
        return {"type": "array", "prefixItems": pair, "minItems": 2, "maxItems": 2}
    if text not in driver.TYPES and text not in driver.SETS:
        raise KeyError(text)
    return _reference(text)
