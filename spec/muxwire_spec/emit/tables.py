"""Markdown tables made from the IR: fields, registries, settings, frames, constants, machines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from muxwire_spec import model as ir


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; a vertical bar in a cell is escaped."""
    lines = [_line(head), "|" + "---|" * len(head), *(_line(row) for row in rows)]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    escaped = " | ".join(cell.replace("|", r"\|") for cell in cells)
    return f"| {escaped} |"


def number(value: int) -> str:
    """Return a number as people read it: grouped, or by its power of two when it is large."""
    for less in range(3):
        power = (value + less).bit_length() - 1
        if power >= 32 and value + less == 1 << power:
            return f"2^{power} - {less}" if less else f"2^{power}"
    return f"{value:,}"


# --- fields -----------------------------------------------------------------------------------


def fields(spec: ir.Spec, layout: ir.Layout) -> str:
    """Return the table of a layout's fields, and what holds for octets missing or left over."""
    text = markdown(("field", "octets", "meaning", "rule"), _fields(spec, layout, ""))
    kinds = (*spec.frames, *spec.callhome.frames)
    if layout.name not in {name for kind in kinds for _, name in kind.payloads}:
        return text
    also = ""
    if layout.trailing is ir.Trailing.REFUSE and not _takes_all(layout):
        also = ", and octets left over,"
    text += f"\n\nOctets that are missing{also} are a {_error(layout.malformed)}."
    if layout.trailing is ir.Trailing.IGNORE:
        text += " Octets behind the last field are ignored."
    return text


def _takes_all(layout: ir.Layout) -> bool:
    return bool(layout.fields) and isinstance(layout.fields[-1].node, ir.Rest)


def _error(breach: ir.Breach) -> str:
    return f"{breach.scope.value} error {breach.code} ({breach.requirement})"


def _fields(spec: ir.Spec, layout: ir.Layout, path: str) -> Iterator[tuple[str, str, str, str]]:
    for field in layout.fields:
        yield from _field(spec, field, path)


def _field(spec: ir.Spec, field: ir.Field, path: str) -> Iterator[tuple[str, str, str, str]]:
    name = f"`{path}{field.name}`"
    length = f"`{path}{field.name}_length`"
    match field.node:
        case ir.Text() as node:
            yield length, str(node.length.bits // 8), f"Octets of {name}", ""
            size = f"{number(node.minimum)} to {number(node.maximum)}"
            yield name, size, field.doc, _text_rule(node)
        case ir.Nested() as node:
            rule = f"at most {node.limit}, else {_error(node.body.malformed)}"
            yield length, str(node.length.bits // 8), f"Octets of {name}", rule
            yield name, length, field.doc, ""
            yield from _fields(spec, node.body, f"{path}{field.name}.")
        case ir.Listed() as node:
            size = f"`{path}{node.count}` items" if node.count else "items to the end"
            yield name, size, field.doc, _list_rule(node)
            yield from _fields(spec, node.item, f"{path}{field.name}[].")
        case _:
            yield name, _size(field.node), field.doc, _rule(spec, field.node, path)


def _size(node: ir.Node) -> str:
    match node:
        case ir.UInt(bits=bits):
            return str(bits // 8)
        case ir.Const(base=base) | ir.Coded(base=base) | ir.FlagSet(base=base):
            return str(base.bits // 8)
        case ir.Counted(base=base):
            return str(base.bits // 8)
        case ir.Octets(size=size) | ir.Reserved(size=size):
            return str(size)
        case ir.ConstOctets(value=value):
            return str(len(value))
        case ir.Rest():
            return "the rest"
    raise TypeError(f"{node!r} has no size of its own")


def _rule(spec: ir.Spec, node: ir.Node, path: str) -> str:
    match node:
        case ir.Const(base=base, value=value, breach=breach):
            return f"0x{value:0{base.bits // 4}X}, else {_error(breach)}"
        case ir.ConstOctets(value=value):
            return f"`{value.hex(' ').upper()}`"
        case ir.Coded(registry=registry):
            return f"see {spec.registry(registry).title}"
        case ir.FlagSet(registry=registry, exclusive=exclusive, breach=breach):
            rule = f"see {spec.registry(registry).title}; other bits are ignored"
            if breach is not None:
                rule += f"; {' and '.join(exclusive)} together: {_error(breach)}"
            return rule
        case ir.Counted(of=of):
            return f"the number of `{path}{of}`"
        case ir.Reserved():
            return "sent as 0, ignored on receipt"
    return ""


def _text_rule(node: ir.Text) -> str:
    if node.breach is None:
        return "longer ones that fit are accepted"
    parts = []
    if node.pattern is not None:
        parts.append(f"matches `{node.pattern}`")
    if node.utf8:
        parts.append("is UTF-8")
    return f"{', '.join(parts) or 'that size'}, else {_error(node.breach)}"


def _list_rule(node: ir.Listed) -> str:
    parts = []
    if node.maximum is not None:
        parts.append(f"at most {node.maximum}")
    if node.unique is not None:
        parts.append(f"each `{node.unique}` once")
    if node.breach is not None:
        parts.append(f"else {_error(node.breach)}")
    return ", ".join(parts)


# --- registries, settings, constants ----------------------------------------------------------


def registry(found: ir.Registry) -> str:
    """Return the table of a registry; flag bits and octets are written in their full width."""
    digits = 2 if found.bits == 32 else found.bits // 4
    rows = [(f"0x{e.value:0{digits}X}", f"`{e.name}`", e.doc) for e in found.entries]
    return markdown(("value", "name", "meaning"), rows)


def settings(spec: ir.Spec) -> str:
    """Return the table of settings with their ranges."""
    head = ("id", "name", "minimum", "assumed", "recommended", "maximum", "meaning")
    rows = [
        (
            f"0x{s.value:04X}",
            f"`{s.name}`",
            *(number(value) for value in (s.minimum, s.assumed, s.recommended, s.maximum)),
            s.doc,
        )
        for s in spec.settings
    ]
    return markdown(head, rows)


def constants(spec: ir.Spec) -> str:
    """Return the table of named numbers."""
    return _constants(spec.constants)


def callhome_constants(spec: ir.Spec) -> str:
    """Return the table of the named numbers of WCH/1."""
    return _constants(spec.callhome.constants)


def _constants(found: Iterable[ir.Constant]) -> str:
    rows = [(f"`{c.name}`", number(c.value), c.unit, c.doc) for c in found]
    return markdown(("name", "value", "unit", "meaning"), rows)


# --- frames -----------------------------------------------------------------------------------

_IDS = {"connection": "all zero", "request": "of the request", "either": "all zero or of a request"}


def frames(spec: ir.Spec) -> str:
    """Return the table of the kinds of frame: what each may say and carry."""
    return _frames(spec, spec.frames)


def callhome_frames(spec: ir.Spec) -> str:
    """Return the table of the kinds of frame of WCH/1."""
    return _frames(spec, spec.callhome.frames)


def _frames(spec: ir.Spec, kinds: Iterable[ir.FrameKind]) -> str:
    head = ("frame", "type / subtype", "sender", "request id", "flags", "payload", "octets")
    return markdown(head, (_frame(spec, kind) for kind in kinds))


def _frame(spec: ir.Spec, kind: ir.FrameKind) -> tuple[str, ...]:
    flags = spec.registry("FLAGS").entries
    numbers = f"0x{spec.registry('FRAME_TYPES').value(kind.type):02X}"
    if kind.subtype is not None:
        subtype = spec.registry(f"{kind.type}_SUBTYPES").value(kind.subtype)
        numbers += f" / 0x{subtype:02X}"
    return (
        kind.name,
        numbers,
        ", ".join(kind.senders),
        _IDS[kind.scope],
        ", ".join(flag.name for flag in flags if kind.flags & flag.value) or "none",
        _payloads(spec, kind),
        _octets(spec, kind),
    )


def _payloads(spec: ir.Spec, kind: ir.FrameKind) -> str:
    if len(kind.payloads) > 1:
        return "; ".join(f"{flag}: {n}" if flag else f"else {n}" for flag, n in kind.payloads)
    (_, name), *_ = kind.payloads
    return name if spec.layout(name).fields else "none"


def _octets(spec: ir.Spec, kind: ir.FrameKind) -> str:
    if kind.length is not None:
        return str(kind.length)
    limit = kind.limit if isinstance(kind.limit, str) else number(kind.limit)
    least = 0 if len(kind.payloads) > 1 else minimum_size(spec.layout(kind.payloads[0][1]))
    steps = f", a multiple of {kind.multiple}" if kind.multiple > 1 else ""
    return f"{least} to {limit}{steps}"


def minimum_size(layout: ir.Layout) -> int:
    """Return the number of octets below which a layout is certainly cut short."""
    total = 0
    for field in layout.fields:
        match field.node:
            case ir.Text(length=length):
                total += length.bits // 8
            case ir.Nested(length=length, body=body):
                total += length.bits // 8 + minimum_size(body)
            case ir.Listed() | ir.Rest():
                pass
            case _:
                total += int(_size(field.node))
    return total


# --- machines ---------------------------------------------------------------------------------


def machine(spec: ir.Spec, found: ir.Machine) -> str:
    """Return a state machine as a matrix, inputs down and states across, and its legend."""
    rows = {(row.state, row.input): row for row in found.rows}
    matrix = markdown(
        ("input", *found.states),
        (
            (doc, *(_cell(rows[state, name]) for state in found.states))
            for name, doc in found.inputs
        ),
    )
    used = {row.effect for row in found.rows if row.breach is None}
    legend = [(_words(name), doc) for name, doc in spec.effects if name in used]
    note = "An arrow names the next state; without one the state stays."
    if any(row.breach is not None for row in found.rows):
        note += " CE(X, ID) is a connection error X, as ID says."
    if any(row.requirement and row.breach is None for row in found.rows):
        note += " An id in brackets is the rule behind the cell."
    return f"{matrix}\n\n{note}\n\n{markdown(('cell', 'what happens'), legend)}"


def _words(effect: str) -> str:
    return effect.lower().replace("_", " ")


def _cell(row: ir.Row) -> str:
    if row.breach is not None:
        return f"CE({row.breach.code}, {row.breach.requirement})"
    text = _words(row.effect)
    if row.next != row.state:
        text += f" → {row.next}"
    return f"{text} ({row.requirement})" if row.requirement else text


# --- errors and classes -----------------------------------------------------------------------


def errors(spec: ir.Spec) -> str:
    """Return the table of connection errors, and the legend of their endings."""
    rows = [
        (
            rule.requirement,
            rule.fault,
            rule.code or "none",
            "; ".join(_ending(end) for end in rule.ends),
        )
        for rule in spec.errors
    ]
    legend = [(_words(name), doc) for name, doc in spec.endings]
    table = markdown(("rule", "fault", "code", "acceptable end"), rows)
    return f"{table}\n\n{markdown(('end', 'what the peer sees'), legend)}"


def _ending(end: ir.Ending) -> str:
    return f"{end.when}: {_words(end.kind)}" if end.when else _words(end.kind)


def classes(spec: ir.Spec) -> str:
    """Return the table of the classes of outcomes, in the order in which they are tested."""
    rows = [(found.name, found.doc, found.retry.doc) for found in spec.classes]
    return markdown(("class", "when", "automatic retry"), rows)


# --- the paths over HTTP ----------------------------------------------------------------------


def http_fields(spec: ir.Spec) -> str:
    """Return the table of the fields of HTTP requests."""
    rows = [
        (
            f"`{field.name}`",
            ", ".join(field.paths),
            "yes" if field.required else "no",
            field.form,
            field.doc,
        )
        for field in spec.http.fields
    ]
    return markdown(("field", "path", "required", "form", "meaning"), rows)


def http_answers(spec: ir.Spec) -> str:
    """Return the table of HTTP answers, in the order in which they are tried."""
    rows = [
        (
            str(answer.status),
            answer.code or "none",
            ", ".join(answer.paths),
            answer.when,
            _answer_fields(answer),
        )
        for answer in spec.http.answers
    ]
    return markdown(("status", "code", "path", "when", "fields"), rows)


def _answer_fields(answer: ir.HttpAnswer) -> str:
    names = ("wmx-not-processed",) * answer.not_processed + answer.fields
    return ", ".join(f"`{name}`" for name in names) or "none"


def http_error(spec: ir.Spec) -> str:
    """Return the table of the members of the error object."""
    rows = [(f"`{member.name}`", member.type, member.doc) for member in spec.http.error]
    return markdown(("member", "type", "meaning"), rows)


def http_formats(spec: ir.Spec) -> str:
    """Return the table of formats, in the order of preference."""
    rows = [
        (found.name, f"`{found.types[0]}`", ", ".join(f"`{t}`" for t in found.types[1:]), found.doc)
        for found in spec.http.formats
    ]
    return markdown(("format", "media type", "aliases", "what it is"), rows)


def http_events(spec: ir.Spec) -> str:
    """Return the grammar of each event, one block to a format, and what the events mean."""
    width = max(len(found.name) for found in spec.http.events)
    lines = []
    for name, forms in (
        ("SSE", [(found.name, found.sse) for found in spec.http.events]),
        ("NDJSON", [(found.name, found.ndjson) for found in spec.http.events]),
        ("Binary", [(found.name, found.binary) for found in spec.http.events]),
    ):
        lines += [name, *(f"  {event:{width}} = {form}" for event, form in forms), ""]
    meanings = markdown(("event", "meaning"), [(e.name, e.doc) for e in spec.http.events])
    return "```text\n" + "\n".join(lines).rstrip() + f"\n```\n\n{meanings}"


def http_constants(spec: ir.Spec) -> str:
    """Return the table of the named numbers of a response over HTTP."""
    return _constants(spec.http.constants)
