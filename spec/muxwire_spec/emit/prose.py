"""Fill the generated regions of the prose: diagrams, field tables, registries, matrices.

A region begins with `<!-- generated: NAME -->` and ends with `<!-- /generated -->`, each on a line
of its own. What stands between is replaced; every other octet stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from muxwire_spec import model as ir
from muxwire_spec.emit import driver, tables
from muxwire_spec.emit.diagram import diagram
from muxwire_spec.emit.vectors import vector_table
from muxwire_spec.requirements import fenced

FOLDER = "spec/text"

_OPEN = re.compile(r"<!--\s*generated:\s*(?P<name>.*?)\s*-->")
_CLOSE = re.compile(r"<!--\s*/generated\s*-->")


class ProseError(ValueError):
    """A region cannot be filled; the message starts with file:line."""


def emit(texts: Mapping[str, str]) -> dict[str, bytes]:
    """Return filled chapters, given by file name, as files of the repository."""
    return {f"{FOLDER}/{file}": text.encode() for file, text in texts.items()}


def fill_all(spec: ir.Spec, texts: Mapping[str, str]) -> dict[str, str]:
    """Return chapters, given by file name, with their regions filled.

    Raises:
        ProseError: a region has an unknown name or no end.
    """
    return {file: fill(spec, text, file) for file, text in texts.items()}


def fill(spec: ir.Spec, text: str, file: str) -> str:
    """Fill the regions of one chapter; `file` is its name for messages.

    Raises:
        ProseError: a region has an unknown name or no end.
    """
    lines = text.split("\n")
    code = fenced(lines)
    filled: list[str] = []
    name, opened = "", 0
    for number, (line, is_code) in enumerate(zip(lines, code, strict=True), start=1):
        start = None if is_code and not opened else _OPEN.fullmatch(line.strip())
        if start and opened:
            raise ProseError(f"{file}:{opened}: generated region {name!r} is not closed")
        if start:
            name, opened = start["name"], number
            filled += [line, "", _region(spec, name, f"{file}:{number}"), ""]
            continue
        if opened and _CLOSE.fullmatch(line.strip()):
            opened = 0
        if not opened:
            filled.append(line)
    if opened:
        raise ProseError(f"{file}:{opened}: generated region {name!r} is not closed")
    return "\n".join(filled)


def _region(spec: ir.Spec, name: str, where: str) -> str:
    kind, _, subject = name.partition(" ")
    render = _REGIONS.get(kind)
    try:
        if render is None:
            raise LookupError(kind)
        return render(spec, subject)
    except LookupError:
        raise ProseError(f"{where}: unknown generated region {name!r}") from None


def _constant(subject: str) -> str:
    """Return the name in the IR of what a region calls "window-update"."""
    if subject != subject.lower():
        raise LookupError(subject)
    return subject.upper().replace("-", "_")


def _diagram(spec: ir.Spec, subject: str) -> str:
    return f"```text\n{diagram(spec.layout(_constant(subject)))}\n```"


def _fields(spec: ir.Spec, subject: str) -> str:
    return tables.fields(spec, spec.layout(_constant(subject)))


def _registry(spec: ir.Spec, subject: str) -> str:
    if subject == "settings":
        return tables.settings(spec)
    return tables.registry(spec.registry(_constant(subject)))


def _machine(spec: ir.Spec, subject: str) -> str:
    machines = {machine.name: machine for machine in spec.machines}
    return tables.machine(spec, machines[_constant(subject)])


def _table(spec: ir.Spec, subject: str) -> str:
    return _TABLES[subject](spec)


def _driver(_: ir.Spec, subject: str) -> str:
    return _DRIVER[subject]()


_TABLES: dict[str, Callable[[ir.Spec], str]] = {
    "callhome-constants": tables.callhome_constants,
    "callhome-frames": tables.callhome_frames,
    "classes": tables.classes,
    "constants": tables.constants,
    "errors": tables.errors,
    "http-answers": tables.http_answers,
    "http-constants": tables.http_constants,
    "http-error": tables.http_error,
    "http-events": tables.http_events,
    "http-fields": tables.http_fields,
    "http-formats": tables.http_formats,
    "frames": tables.frames,
    "vectors": vector_table,
}
_DRIVER: dict[str, Callable[[], str]] = {"grammar": driver.grammar, "features": driver.features}
_REGIONS: dict[str, Callable[[ir.Spec, str], str]] = {
    "diagram": _diagram,
    "driver": _driver,
    "fields": _fields,
    "machine": _machine,
    "registry": _registry,
    "table": _table,
}
