"""JSON by its grammar (RFC 8259), read by hand: where a value ends, and the texts of its parts.

Rules of this file: it uses no JSON library, since what is held against it does.
"""

from __future__ import annotations

import re

SPACE = re.compile(r"[ \t\n\r]*")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_WORD = re.compile(r"true|false|null")
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)


class NotJsonError(ValueError):
    """A text is not JSON."""


def is_value(text: str) -> bool:
    """Whether a text is one value, with space around it or not."""
    try:
        at = value(text, _space(text, 0))
    except NotJsonError:
        return False
    return _space(text, at) == len(text)


def value(text: str, at: int) -> int:
    """Return where the value ends that begins at a place.

    Raises:
        NotJsonError: none begins there.
    """
    if text[at : at + 1] in ("{", "["):
        return _container(text, at)
    for form in (_STRING, _NUMBER, _WORD):
        found = form.match(text, at)
        if found is not None:
            return found.end()
    raise NotJsonError(f"no value at {at}")


def members(text: str) -> list[tuple[str, str]]:
    """Return the members of an object: each name, decoded, with the text of its value.

    Raises:
        NotJsonError: it is no object.
    """
    found: list[tuple[str, str]] = []
    at = _space(text, 0)
    if text[at : at + 1] != "{":
        raise NotJsonError("no object")
    end = _members(text, at, found)
    if _space(text, end) != len(text):
        raise NotJsonError("something follows the object")
    return found


def string(text: str) -> str | None:
    """Return the string that a text of a value is, None if it is another kind of value."""
    if not _STRING.fullmatch(text):
        return None
    plain = _ESCAPE.sub(_unescape, text[1:-1])
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _unescape(found: re.Match[str]) -> str:
    letter = found[1]
    if letter[0] == "u" and len(letter) == 5:
        return chr(int(letter[1:], 16))
    return _ESCAPES.get(letter, letter)


def _space(text: str, at: int) -> int:
    found = SPACE.match(text, at)
    return at if found is None else found.end()


def _container(text: str, at: int) -> int:
    if text[at] == "{":
        return _members(text, at, [])
    at = _space(text, at + 1)
    if text[at : at + 1] == "]":
        return at + 1
    while True:
        at = _space(text, value(text, at))
        mark = text[at : at + 1]
        if mark == "]":
            return at + 1
        if mark != ",":
            raise NotJsonError(f"neither comma nor bracket at {at}")
        at = _space(text, at + 1)


def _members(text: str, at: int, found: list[tuple[str, str]]) -> int:
    at = _space(text, at + 1)
    if text[at : at + 1] == "}":
        return at + 1
    while True:
        name = _STRING.match(text, at)
        if name is None:
            raise NotJsonError(f"no name at {at}")
        at = _space(text, name.end())
        if text[at : at + 1] != ":":
            raise NotJsonError(f"no colon at {at}")
        at = _space(text, at + 1)
        end = value(text, at)
        found.append((string(name[0]) or "", text[at:end]))
        at = _space(text, end)
        mark = text[at : at + 1]
        if mark == "}":
            return at + 1
        if mark != ",":
            raise NotJsonError(f"neither comma nor brace at {at}")
        at = _space(text, at + 1)
