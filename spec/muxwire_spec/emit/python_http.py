"""Emit `muxwire/_generated/http.py`: names of fields, and the answers before a stream."""

from __future__ import annotations

from muxwire_spec.emit.source import constants, module
from muxwire_spec.model import HttpAnswer, Spec

PATH = "reference/muxwire/_generated/http.py"

_ANSWER = '''
class Answer(NamedTuple):
    """An HTTP answer: `code` is that of its error object, 0 on success."""

    status: int
    code: int
    not_processed: bool
'''


def emit(spec: Spec) -> dict[str, bytes]:
    """Return the module of the paths over HTTP."""
    fields = [(_constant(field.name), f'"{field.name}"') for field in spec.http.fields]
    fields.append(("WMX_NOT_PROCESSED", '"wmx-not-processed"'))
    formats = [
        f'    "{found.name}": ({", ".join(repr(type_) for type_ in found.types)},),'
        for found in spec.http.formats
    ]
    blocks = [
        "from typing import NamedTuple",
        "# Fields of requests, and the one of answers\n" + constants(fields),
        _ANSWER,
        constants([(answer.name, _answer(spec, answer)) for answer in spec.http.answers]),
        "# Media types of each format, its own first; in the order of preference\n"
        "FORMATS: dict[str, tuple[str, ...]] = {\n" + "\n".join(formats) + "\n}",
    ]
    return {PATH: module("Fields and answers of the paths over HTTP.", *blocks)}


def _constant(name: str) -> str:
    return name.upper().replace("-", "_")


def _answer(spec: Spec, answer: HttpAnswer) -> str:
    codes = spec.registry("ERROR_CODES")
    code = 0 if answer.code is None else codes.value(answer.code)
    return f"Answer({answer.status}, {code:#05x}, {answer.not_processed})"
