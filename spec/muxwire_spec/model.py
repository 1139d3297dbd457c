"""The intermediate representation (IR): frozen dataclasses and nothing else.

Every emitter reads this and only this. What cannot be said here cannot be generated, and
`lower` refuses it. A node's octets are described completely by its public attributes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class Scope(StrEnum):
    """What an error ends: the connection, or one request."""

    CONNECTION = "connection"
    STREAM = "stream"


class Trailing(StrEnum):
    """What happens to octets behind the last field of a layout."""

    REFUSE = "refuse"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """The error that a broken rule leads to: registry code, scope, requirement id."""

    code: str
    scope: Scope
    requirement: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One assigned value of a registry."""

    value: int
    name: str
    doc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """A named set of assigned integers. `bits` is the width of the field that carries them."""

    name: str
    title: str
    bits: int
    entries: tuple[Entry, ...]

    def value(self, name: str) -> int:
        """Return the value called `name`.

        Raises:
            KeyError: no entry has that name.
        """
        for entry in self.entries:
            if entry.name == name:
                return entry.value
        raise KeyError(f"{self.name} has no entry {name!r}")

    def name_of(self, value: int) -> str | None:
        """Return the name of `value`, or None when it is not assigned."""
        for entry in self.entries:
            if entry.value == value:
                return entry.name
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting: its legal range and what holds until the peer has announced it.

    `assumed` is the floor of a limit (no legal value is lower) or the default of a duration.
    """

    value: int
    name: str
    minimum: int
    assumed: int
    recommended: int
    maximum: int
    doc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UInt:
    """An unsigned big-endian integer of 8, 16, 32 or 64 bits."""

    bits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Octets:
    """Exactly `size` opaque octets."""

    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """All octets up to the end of the enclosing structure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Const:
    """An integer that always has one value; anything else is `breach`."""

    base: UInt
    value: int
    breach: Breach


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstOctets:
    """Octets that always have one value."""

    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Coded:
    """An integer whose values are named in a registry. Unassigned values are legal here."""

    base: UInt
    registry: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagSet:
    """An integer of flag bits. Unassigned bits are ignored; `exclusive` bits never go together."""

    base: UInt
    registry: str
    exclusive: tuple[str, ...]
    breach: Breach | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """Octets sent as zero and ignored on receipt."""

    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """An integer that holds the number of items of the list field called `of`."""

    base: UInt
    of: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Length-prefixed octets with a size range and, for what is compared or shown, a pattern."""

    length: UInt
    minimum: int
    maximum: int
    pattern: str | None
    utf8: bool
    breach: Breach | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Nested:
    """A length-prefixed layout. `limit` names the setting that caps the length."""

    length: UInt
    body: Layout
    limit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A list of layouts: as many as the field `count` says or, without it, to the end.

    `maximum` items at most, the field `unique` different in each; both lead to `breach`.
    """

    item: Layout
    count: str | None
    maximum: int | None
    unique: str | None
    breach: Breach | None


Node: TypeAlias = (
    UInt
    | Octets
    | Rest
    | Const
    | ConstOctets
    | Coded
    | FlagSet
    | Reserved
    | Counted
    | Text
    | Nested
    | Listed
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A named node of a layout."""

    name: str
    doc: str
    node: Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A sequence of fields.

    `malformed` is the error for octets that are missing or, with `Trailing.REFUSE`, left over.
    `trailing` is None for the items of a list, behind which the next item follows.
    """

    name: str
    doc: str
    fields: tuple[Field, ...]
    trailing: Trailing | None
    malformed: Breach


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameKind:
    """One kind of frame: what its header may say and which payload it carries.

    `subtype` is None where the octet is zero. `flags` is the mask of the flags allowed.
    `scope` says which id it carries: `connection` (all zero), `request`, or `either`.
    `limit` caps payload_length: a setting's name or a number. `payloads` lists the layouts by the
    flag that selects them ("" when no such flag is set), first match wins.
    """

    name: str
    type: str
    subtype: str | None
    flags: int
    scope: str
    senders: tuple[str, ...]
    limit: str | int
    length: int | None
    multiple: int
    payloads: tuple[tuple[str, str], ...]
    doc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One step of the order in which a frame is checked."""

    step: str
    breach: Breach | None
    doc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """A named number of the specification."""

    name: str
    value: int
    unit: str
    doc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """Another protocol on the same frames: what it does not say here is as in WMX/1.

    `preface` is the name of its layout. `dials` and `listens` are the roles of its two sides.
    `frames` are all kinds of frame that it knows.
    """

    name: str
    magic: bytes
    preface: str
    dials: str
    listens: str
    frames: tuple[FrameKind, ...]
    constants: tuple[Constant, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpField:
    """A field of an HTTP request on the paths named; `form` says in words what is well-formed."""

    name: str
    paths: tuple[str, ...]
    form: str
    required: bool
    doc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """An HTTP answer: its status, the code of its error object, and the fields that it needs.

    `code` is None for success. `not_processed` says that it carries `wmx-not-processed: 1`. Of
    several that apply, the first one in the list is given.
    """

    name: str
    status: int
    code: str | None
    paths: tuple[str, ...]
    not_processed: bool
    fields: tuple[str, ...]
    when: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A member of a JSON object."""

    name: str
    type: str
    doc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format of a response over HTTP; the first of its media types is its own."""

    name: str
    types: tuple[str, ...]
    doc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventForm:
    """An event of a response over HTTP, and what it looks like in each format."""

    name: str
    sse: str
    ndjson: str
    binary: str
    doc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """What belongs to the paths over HTTP. `error` lists the members of the error object.

    `formats`, in the order of preference, `events` and `constants` are those of the response as a
    body.
    """

    fields: tuple[HttpField, ...]
    answers: tuple[HttpAnswer, ...]
    error: tuple[Member, ...]
    formats: tuple[Format, ...]
    events: tuple[EventForm, ...]
    constants: tuple[Constant, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One cell of a state machine: what an input does in a state.

    `requirement` is the rule that demands the effect, or "" when none does by itself.
    """

    state: str
    input: str
    next: str
    effect: str
    breach: Breach | None
    requirement: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A total state machine: every state has a row for every input.

    The first state is the one it begins in. `prefix` stands before the names of states and inputs
    where all machines share one namespace.
    """

    name: str
    title: str
    prefix: str
    states: tuple[str, ...]
    inputs: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """When a request of a class may be tried again without asking its caller.

    `allowed` false: never. `idempotent`: only with that request flag. `unanswered`: only while no
    complete message was received. `only` are the codes that allow it (none: all do), `never` those
    that forbid it, `elsewhere` those that forbid it on a worker that already gave them.
    NON_RETRYABLE always forbids it. `doc` says the same in words.
    """

    allowed: bool
    idempotent: bool
    unanswered: bool
    only: tuple[str, ...]
    never: tuple[str, ...]
    elsewhere: tuple[str, ...]
    doc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeClass:
    """A class of unsuccessful outcomes; of several whose `when` holds, the first applies.

    `when` is a list of alternatives. Each is a list of facts that all hold; "!" before a fact says
    that it does not. `doc` says the same in words. `rank` orders the classes of several attempts.
    """

    name: str
    when: tuple[tuple[str, ...], ...]
    doc: str
    rank: int
    retry: Retry


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """One acceptable way for a connection error to end: a kind, and its condition if any."""

    kind: str
    when: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRule:
    """A fault that ends a connection: the rule, the code of the GOAWAY, what a peer may then see.

    `code` is null where no GOAWAY is sent.
    """

    requirement: str
    fault: str
    code: str | None
    ends: tuple[Ending, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """The whole specification: WMX/1, what `callhome` (WCH/1) has of its own, and `http`."""

    name: str
    version: int
    magic: bytes
    marker: int
    header_size: int
    preface_size: int
    registries: tuple[Registry, ...]
    settings: tuple[Setting, ...]
    constants: tuple[Constant, ...]
    layouts: tuple[Layout, ...]
    frames: tuple[FrameKind, ...]
    checks: tuple[Check, ...]
    effects: tuple[tuple[str, str], ...]
    machines: tuple[Machine, ...]
    facts: tuple[tuple[str, str], ...]
    classes: tuple[OutcomeClass, ...]
    endings: tuple[tuple[str, str], ...]
    errors: tuple[ErrorRule, ...]
    callhome: Protocol
    http: Http

    def registry(self, name: str) -> Registry:
        """Return the registry called `name`.

        Raises:
            KeyError: there is none.
        """
        for registry in self.registries:
            if registry.name == name:
                return registry
        raise KeyError(name)

    def layout(self, name: str) -> Layout:
        """Return the layout called `name`.

        Raises:
            KeyError: there is none.
        """
        for layout in self.layouts:
            if layout.name == name:
                return layout
        raise KeyError(name)

    def constant(self, name: str) -> int:
        """Return the value of the constant called `name`.

        Raises:
            KeyError: there is none.
        """
        for constant in self.constants:
            if constant.name == name:
                return constant.value
        raise KeyError(name)
