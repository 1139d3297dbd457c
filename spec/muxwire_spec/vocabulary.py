"""The strict construct dialect that the specification is written in.

Each word is a construct class whose whole meaning is in public attributes, so that `lower` can
read it and construct itself can run it. Plain construct hides too much for that: conditions live
in closures, padding accepts any octets, and what follows the last field is dropped in silence.
Nothing outside this module is allowed in a layout.
"""

from __future__ import annotations

import io
import re
from typing import Any

import construct

from muxwire_spec.model import Breach, Registry, Trailing

_FORMATS = {8: "B", 16: "H", 32: "L", 64: "Q"}


class Broken(construct.ConstructError):  # type: ignore[misc]
    """Octets break a rule of the specification: `breach` says which, `field` says where."""

    def __init__(self, breach: Breach, field: str, text: str) -> None:
        super().__init__(f"{breach.requirement} {field}: {text}")
        self.breach = breach
        self.field = field
        self.text = text


def _field(path: str) -> str:
    """Turn construct's path "(parsing) -> metadata -> subject" into "metadata.subject"."""
    return ".".join(path.split(" -> ")[1:])


def _defer(context: Any, breach: Breach, path: str, text: str) -> None:
    """Note a breach that gives way to octets that are missing anywhere in the payload."""
    context._params.get("_deferred", []).append(Broken(breach, _field(path), text))


class UInt(construct.FormatField):  # type: ignore[misc]
    """An unsigned big-endian integer."""

    def __init__(self, bits: int) -> None:
        super().__init__(">", _FORMATS[bits])
        self.bits = bits


u8, u16, u32, u64 = UInt(8), UInt(16), UInt(32), UInt(64)


class Octets(construct.Bytes):  # type: ignore[misc]
    """Exactly `size` octets."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


class Rest(construct.Construct):  # type: ignore[misc]
    """Everything up to the end of the enclosing structure."""

    def _parse(self, stream: io.BytesIO, context: Any, path: str) -> bytes:
        del context, path
        return stream.read()

    def _build(self, obj: bytes, stream: io.BytesIO, context: Any, path: str) -> bytes:
        del context, path
        stream.write(obj)
        return obj


class Const(construct.Adapter):  # type: ignore[misc]
    """An integer that has one value."""

    def __init__(self, base: UInt, value: int, breach: Breach) -> None:
        super().__init__(base)
        self.flagbuildnone = True
        self.base = base
        self.value = value
        self.breach = breach

    def _decode(self, obj: int, context: Any, path: str) -> int:
        if obj != self.value:
            _defer(context, self.breach, path, f"{obj:#x} is not {self.value:#x}")
        return obj

    def _encode(self, obj: int | None, context: Any, path: str) -> int:
        del context, path
        return self.value if obj is None else obj


class ConstOctets(construct.Const):  # type: ignore[misc]
    """Octets that have one value."""


class Coded(construct.Adapter):  # type: ignore[misc]
    """An integer whose values are named in a registry; unassigned values pass."""

    def __init__(self, base: UInt, registry: Registry) -> None:
        super().__init__(base)
        self.base = base
        self.registry = registry

    def _decode(self, obj: int, context: Any, path: str) -> int:
        del context, path
        return obj

    _encode = _decode


class FlagSet(construct.Adapter):  # type: ignore[misc]
    """Flag bits named in a registry; unassigned bits pass. `exclusive` bits never go together."""

    def __init__(
        self,
        base: UInt,
        registry: Registry,
        *,
        exclusive: tuple[str, ...] = (),
        breach: Breach | None = None,
    ) -> None:
        super().__init__(base)
        self.base = base
        self.registry = registry
        self.exclusive = exclusive
        self.breach = breach

    def _decode(self, obj: int, context: Any, path: str) -> int:
        if self.breach and all(obj & self.registry.value(name) for name in self.exclusive):
            _defer(context, self.breach, path, f"{' and '.join(self.exclusive)} are both set")
        return obj

    def _encode(self, obj: int, context: Any, path: str) -> int:
        del context, path
        return obj


class Reserved(construct.Construct):  # type: ignore[misc]
    """Octets sent as zero and ignored on receipt."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.flagbuildnone = True

    def _parse(self, stream: io.BytesIO, context: Any, path: str) -> bytes:
        del context
        return construct.stream_read(stream, self.size, path)  # type: ignore[no-any-return]

    def _build(self, obj: bytes | None, stream: io.BytesIO, context: Any, path: str) -> bytes:
        del context, path
        octets = bytes(self.size) if obj is None else obj
        stream.write(octets)
        return octets


class Counted(construct.Rebuild):  # type: ignore[misc]
    """An integer that holds the number of items of the list field `of`, which follows."""

    def __init__(self, base: UInt, of: str) -> None:
        super().__init__(base, lambda this: len(this[of]))
        self.base = base
        self.of = of


class Text(construct.Prefixed):  # type: ignore[misc]
    """Length-prefixed octets with a size range and, where it matters, a pattern."""

    def __init__(
        self,
        length: UInt,
        *,
        minimum: int = 0,
        maximum: int,
        pattern: str | None = None,
        utf8: bool = False,
        breach: Breach | None = None,
    ) -> None:
        super().__init__(length, Rest())
        self.length = length
        self.minimum = minimum
        self.maximum = maximum
        self.pattern = pattern
        self.utf8 = utf8
        self.breach = breach

    def _parse(self, stream: io.BytesIO, context: Any, path: str) -> bytes:
        octets: bytes = super()._parse(stream, context, path)
        if self.breach and (fault := self._fault(octets)):
            _defer(context, self.breach, path, fault)
        return octets

    def _fault(self, octets: bytes) -> str | None:
        if not self.minimum <= len(octets) <= self.maximum:
            return f"{len(octets)} octets, allowed are {self.minimum} to {self.maximum}"
        if self.pattern and not re.fullmatch(self.pattern.encode(), octets):
            return f"{octets[:64]!r} does not match {self.pattern}"
        if self.utf8:
            try:
                octets.decode()
            except UnicodeDecodeError as error:
                return f"not UTF-8: {error.reason} at octet {error.start}"
        return None


class Nested(construct.Construct):  # type: ignore[misc]
    """A length-prefixed layout. The setting `limit` of the receiver caps the length."""

    def __init__(self, length: UInt, body: Layout, *, limit: str) -> None:
        super().__init__()
        self.length = length
        self.body = body
        self.limit = limit

    def _parse(self, stream: io.BytesIO, context: Any, path: str) -> Any:
        length = self.length._parsereport(stream, context, path)
        limit = context._params.get(self.limit)
        if limit is not None and length > limit:
            text = f"{length} octets, {self.limit} is {limit}"
            raise Broken(self.body.malformed, f"{_field(path)}_length", text)
        inner = io.BytesIO(construct.stream_read(stream, length, path))
        value = self.body._parsereport(inner, context, path)
        self.body.end(inner, path)
        return value

    def _build(self, obj: Any, stream: io.BytesIO, context: Any, path: str) -> Any:
        inner = io.BytesIO()
        value = self.body._build(obj, inner, context, path)
        self.length._build(len(inner.getvalue()), stream, context, path)
        stream.write(inner.getvalue())
        return value


class Listed(construct.Construct):  # type: ignore[misc]
    """A list of layouts: as many as the field `count` says or, without it, to the end."""

    def __init__(
        self,
        item: Layout,
        *,
        count: str | None = None,
        maximum: int | None = None,
        unique: str | None = None,
        breach: Breach | None = None,
    ) -> None:
        super().__init__()
        self.item = item
        self.count = count
        self.maximum = maximum
        self.unique = unique
        self.breach = breach

    def _parse(self, stream: io.BytesIO, context: Any, path: str) -> list[Any]:
        items: list[Any] = []
        expected = None if self.count is None else context[self.count]
        while len(items) < expected if expected is not None else not _at_end(stream):
            items.append(self.item._parsereport(stream, context, f"{path}[{len(items)}]"))
        if self.breach is not None:
            self._check(items, self.breach, context, path)
        return items

    def _check(self, items: list[Any], breach: Breach, context: Any, path: str) -> None:
        if self.maximum is not None and len(items) > self.maximum:
            text = f"{len(items)} items, at most {self.maximum} are allowed"
            _defer(context, breach, f"{path}[{self.maximum}]", text)
        if self.unique is None:
            return
        seen = set()
        for index, item in enumerate(items):
            if item[self.unique] in seen:
                text = f"the {self.unique} is repeated"
                _defer(context, breach, f"{path}[{index}] -> {self.unique}", text)
                return
            seen.add(item[self.unique])

    def _build(self, obj: list[Any], stream: io.BytesIO, context: Any, path: str) -> list[Any]:
        for index, item in enumerate(obj):
            self.item._build(item, stream, context, f"{path}[{index}]")
        return obj


def _at_end(stream: io.BytesIO) -> bool:
    return stream.tell() == len(stream.getbuffer())


class Layout(construct.Struct):  # type: ignore[misc]
    """A sequence of named fields that also says what may follow the last one."""

    def __init__(
        self, name: str, doc: str, *fields: Any, malformed: Breach, trailing: Trailing | None
    ) -> None:
        super().__init__(*fields)
        self.title = name
        self.doc = doc
        self.malformed = malformed
        self.trailing = trailing

    def end(self, stream: io.BytesIO, path: str) -> None:
        """Deal with the octets behind the last field.

        Raises:
            Broken: there are some and this layout refuses them.
        """
        if (left := len(stream.read())) and self.trailing is Trailing.REFUSE:
            raise Broken(self.malformed, _field(path), f"{left} octets too many")

    def read(self, octets: bytes, **limits: int) -> construct.Container:
        """Read a whole payload and check everything that the layout says.

        `limits` are the receiver's settings that cap a length, by name.

        Raises:
            Broken: the octets break a rule of this layout. Missing octets come before anything
                else; of several broken rules the first field's is reported.
        """
        stream = io.BytesIO(octets)
        deferred: list[Broken] = []
        try:
            value = self.parse_stream(stream, _deferred=deferred, **limits)
        except construct.StreamError as error:
            raise Broken(self.malformed, _field(error.path), "the octets end here") from None
        self.end(stream, "")
        if deferred:
            raise deferred[0]
        return value


def field(name: str, node: construct.Construct, doc: str) -> construct.Renamed:
    """Name a node and say what it means."""
    return construct.Renamed(node, newname=name, newdocs=doc)
