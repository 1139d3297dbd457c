"""Accept, and the fields of both paths over HTTP, against what the specification says of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from muxwire.callhome import fields as callhome_fields
from muxwire.core.metadata import Header
from muxwire.errors import InvalidArgument
from muxwire.http import fields as http_fields
from muxwire.http.negotiation import negotiate
from muxwire.overhttp import Refusal, check_media_type, read_error, subject
from muxwire.tcp.address import parse
from muxwire_spec import formats
from muxwire_spec.vectors.http_accept import ACCEPT

from muxwire_fuzz import jsontext, texts
from muxwire_fuzz.harness import Target, equal, require

NAMES = tuple(found.name for found in formats.FORMATS)
_U32 = 2**32 - 1
_HOP = {
    *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer"),
    *("proxy-connection", "transfer-encoding", "upgrade"),
}
"""Fields that concern one hop: RFC 9110 section 7.6.1, and the old name of one."""
_OWN = {"host", "content-length", "expect", "accept-encoding"}
_DIGITS = re.compile(r"[0-9]{1,10}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{21}[AQgw]")
_PLACE = re.compile(r"(?:\[([0-9a-fA-F:.]*)\]|([0-9.]*)):([0-9]{1,5})")
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


class _RefusedError(Exception):
    """The specification refuses the fields."""


# -- the choice of a format


def _accept(text: str, options: int) -> None:
    default = NAMES[options >> 3 & 3] if options >> 3 & 3 < 3 else NAMES[0]
    meant = formats.negotiate(text, default)
    choice = negotiate(text, default)
    equal(choice and choice.media_type, meant, "P1-001: the type of the answer")
    if choice is not None:
        types = {found.name: found.types for found in formats.FORMATS}
        require(choice.media_type in types[choice.format], "P1-001: the type is of the format")


# -- fields


def _raw(text: str) -> list[Header]:
    """Return the fields that a text has, one to a line, as an HTTP library gives them."""
    pairs = (line.partition(":") for line in text.split("\n") if ":" in line)
    return [
        (name.strip().encode("latin-1"), value.strip(" \t").encode("latin-1"))
        for name, _, value in pairs
    ]


class _Sorted(NamedTuple):
    """Fields by name, and what a handler is to see of them."""

    values: dict[str, list[str]]
    seen: list[Header]


def _sorted(raw: list[Header]) -> _Sorted:
    values: dict[str, list[str]] = {}
    for name, value in raw:
        values.setdefault(name.lower().decode("latin-1"), []).append(value.decode("latin-1"))
    options = {
        option.strip().lower().decode("latin-1")
        for name, value in raw
        for option in value.split(b",")
        if name.lower() == b"connection"
    }
    hidden = _HOP | _OWN | options
    seen = [
        (name.lower(), value)
        for name, value in raw
        if name.lower().decode("latin-1") not in hidden
        and not name.lower().startswith((b"wch-", b"wmx-"))
    ]
    return _Sorted(values, seen)


def _once(found: _Sorted, name: str, missing: str | None) -> str:
    given = found.values.get(name, [])
    if len(given) > 1 or (not given and missing is None):
        raise _RefusedError
    return given[0] if given else missing or ""


def _number(found: _Sorted, name: str, missing: int, least: int, most: int) -> int:
    text = _once(found, name, str(missing))
    if not _DIGITS.fullmatch(text) or not least <= int(text) <= most:
        raise _RefusedError
    return int(text)


def _http(text: str, _options: int) -> None:
    raw = _raw(text)
    found = _sorted(raw)

    def meant() -> tuple[object, ...]:
        timeout = _number(found, "wmx-timeout-ms", 0, 0, _U32)
        return timeout, _number(found, "wmx-heartbeat-ms", 15_000, 100, 60_000), found.seen

    def said() -> tuple[object, ...]:
        fields = http_fields.read(raw)
        accept = found.values.get("accept")
        equal(fields.accept, ", ".join(accept) if accept else None, "Accept is joined with commas")
        equal(fields.resumes, "last-event-id" in found.values, "P1-019: last-event-id is noticed")
        require(0 <= fields.content_length < 10**20, "a content-length is a number")
        first = found.values.get("request-id", [""])[0]
        good = _UUID.fullmatch(first) and set(first) - {"-"} not in (
            {"0"},
            {"f"},
            {"F"},
            {"f", "F"},
        )
        equal(fields.request_id is not None, bool(good), "request-id is a UUID or none")
        return fields.timeout_ms, fields.heartbeat_ms, fields.headers

    _compare(meant, said, "P1-015")


def _callhome(text: str, _options: int) -> None:
    raw = _raw(text)
    found = _sorted(raw)

    def meant() -> tuple[object, ...]:
        for name in ("request-id", "traceparent"):
            _once(found, name, "")
        place = _PLACE.fullmatch(_once(found, "wch-addr", None))
        if place is None or not 1 <= int(place[3]) <= 65_535:
            raise _RefusedError
        host = _v4(place[2]) if place[1] is None else _v6(place[1])
        stream = _once(found, "wch-stream", None)
        digits = stream.replace("-", "").lower()
        token = _once(found, "wch-token", None)
        bad = not _UUID.fullmatch(stream) or set(digits) in ({"0"}, {"f"})
        if bad or not _TOKEN.fullmatch(token) or host is None:
            raise _RefusedError
        _number(found, "attempt", 2, 2, 10**10)
        timeout = _number(found, "wch-timeout-ms", 0, 0, _U32)
        return host, int(place[3]), int(digits, 16), _from_base64(token), timeout, found.seen

    def said() -> tuple[object, ...]:
        fields = callhome_fields.read(raw)
        host, port = parse(fields.target)
        equal(host, str(fields.host), "the address to dial is that of the field")
        stream, token = int.from_bytes(fields.stream), int.from_bytes(fields.token)
        return int(fields.host), port, stream, token, fields.timeout_ms, fields.headers

    _compare(meant, said, "P0-017")


def _compare(
    meant: Callable[[], tuple[object, ...]], said: Callable[[], tuple[object, ...]], rule: str
) -> None:
    try:
        expected: tuple[object, ...] | None = meant()
    except _RefusedError:
        expected = None
    try:
        found: tuple[object, ...] | None = said()
    except InvalidArgument as error:
        require("\n" not in str(error), "an error is one line", str(error))
        found = None
    equal(found is None, expected is None, f"{rule}: the same fields are refused")
    equal(found, expected, f"{rule}: fields are read as they are meant")


def _from_base64(text: str) -> int:
    number = 0
    for letter in text:
        number = number << 6 | _ALPHABET.index(letter)
    return number >> 4


def _v4(text: str) -> int | None:
    parts = text.split(".")
    good = [part.isdigit() and str(int(part)) == part and int(part) < 256 for part in parts]
    if len(parts) != 4 or not all(good):
        return None
    return sum(int(part) << 8 * (3 - at) for at, part in enumerate(parts))


def _v6(text: str) -> int | None:
    """Return an IPv6 address as a number, or the IPv4 address that it wraps."""
    left, gap, right = text.partition("::")
    first, last = _groups(left, alone=not gap), _groups(right, alone=False)
    if first is None or last is None or "::" in right or (gap and _dotted(left)):
        return None
    missing = 8 - len(first) - len(last)
    if missing < 1 if gap else missing != 0:
        return None
    number = 0
    for group in (*first, *(0,) * missing, *last):
        number = number << 16 | group
    return number & 0xFFFFFFFF if number >> 32 == 0xFFFF else number


def _dotted(text: str) -> bool:
    return "." in text


def _groups(text: str, *, alone: bool) -> list[int] | None:
    if not text:
        return None if alone else []
    groups: list[int] = []
    parts = text.split(":")
    for at, part in enumerate(parts):
        if _dotted(part):
            four = _v4(part) if at == len(parts) - 1 else None
            if four is None:
                return None
            groups += [four >> 16, four & 0xFFFF]
        elif not re.fullmatch(r"[0-9a-fA-F]{1,4}", part):
            return None
        else:
            groups.append(int(part, 16))
    return groups


# -- the rest of a request, and an answer


def _rest(text: str, options: int) -> None:
    head, _, tail = text.partition("\n")
    try:
        media_type = check_media_type(head, tail if options & 4 else None)
        require(media_type in ("application/json", "application/octet-stream"), "a known type")
    except Refusal as refusal:
        equal(refusal.answer.status, 415, "section 21.2: a body of another type is answered 415")
    try:
        name = subject("/v1/rpc/response", head)
        require("/" not in head.removeprefix("/v1/rpc/response/"), "one segment behind the root")
        require(name, "a subject is not empty")
    except Refusal as refusal:
        equal(refusal.answer.status, 404, "section 21.2: another path is answered 404")
        require("\n" not in refusal.body().decode(), "an error object is one line")
        json.loads(refusal.body())
    body = tail.encode("latin-1")
    said = read_error(503, body, head)
    for number in (said.code, said.retry_after_ms):
        require(number is None or 0 <= number <= _U32, "numbers of an error object are u32")
    require(len(said.message) <= 1_024, "PAY-007: a message has a limit")
    if said.code is not None:
        require(jsontext.is_value(body.decode()), "a code comes from JSON", repr(body))


_KINDS = (_accept, _http, _callhome, _rest)
KINDS = ("Accept", "fields of the path http", "fields of call-home", "the rest of a request")


def check(data: bytes) -> None:
    """Read a text as one of the kinds."""
    options = data[0] if data else 0
    _KINDS[options & 3](data[1:].decode("latin-1"), options)


_ID = "0190b3f2-7c4e-7a11-8f00-0123456789ab"
_CALL = (
    "wch-addr: 127.0.0.1:9000\nwch-stream: 0190b3f2-7c4e-7a11-8f00-0123456789ab\n"
    "wch-token: ABEiM0RVZneImaq7zN3u_w\nwch-timeout-ms: 1000\n"
)
_SEEDS = (
    *((0, text) for text in ("text / event-stream", "application/ndjson;q=0.1, a/b;q=1")),
    *((1, text) for text in (
        "Accept: */*\nwmx-timeout-ms: 10\nwmx-heartbeat-ms: 100\nrequest-id: " + _ID,
        "connection: close, x-a\nx-a: 1\nx-b: 2\nhost: a\ncontent-length: 12\nlast-event-id: 3",
        "accept: a/b\naccept: c/d\nwmx-heartbeat-ms: 60001\n",
        "wmx-timeout-ms: 1\nWMX-Timeout-Ms: 1\n",
    )),
    *((2, text) for text in (
        _CALL,
        _CALL.replace("127.0.0.1", "[::1]"),
        _CALL.replace("127.0.0.1", "[::ffff:1.2.3.4]"),
        _CALL.replace("127.0.0.1", "[1:2:3:4:5:6:7:8]"),
        _CALL + "attempt: 2\nx-a: b\nconnection: x-a\n",
        _CALL + "wch-token: x\n",
        _CALL.replace("3u_w", "3u_x"),
    )),
    *((3, text) for text in (
        "application/json; charset=utf-8\nidentity",
        "/v1/rpc/response/a.b\n" + '{"num":260,"message":"m","retry_after_ms":5}',
        "7\n" + '{"num":4294967296,"message":1}',
        "/v1/rpc/response/%41%2e\n[]",
    )),
)  # fmt: skip
WORDS = tuple(
    word.encode("latin-1")
    for word in (
        *(type_ for found in formats.FORMATS for type_ in found.types),
        *("*/*", "text/*", "application/*", ";q=0", ";q=1", ";q=0.5", ";q=0.1234", ";q=1.000"),
        *(";q=", "; charset=utf-8", ", ", ",", ";", '"', '"a,b"', " ", "\t", "\n", ":", "q=.5"),
        *("wmx-timeout-ms: ", "wmx-heartbeat-ms: ", "wch-addr: ", "wch-stream: ", "wch-token: "),
        *("wch-timeout-ms: ", "request-id: ", "attempt: ", "traceparent: ", "connection: "),
        *("host: ", "accept: ", "last-event-id: ", "content-length: ", "te: ", "upgrade: "),
        *("0", "1", "2", "100", "60000", "4294967295", "4294967296", "00", "\xb2", "\xff", "%2f"),
        *("127.0.0.1", "[::]", "[::1]", "::", ":9000", ":0", ":65536", "01", "256", "ffff:"),
        *('{"num":', '"message":', '"retry_after_ms":', "null", "[", "1e9", "NaN", "_w", "_x"),
        *("ABEiM0RVZneImaq7zN3u_w", "ABEiM0RVZneImaq7zN3u_x"),
    )
)


def seeds() -> Iterator[bytes]:
    """Yield every vector of the choice, and fields of each kind."""
    for accept, default, _ in ACCEPT:
        yield bytes((NAMES.index(default) << 3,)) + (accept or "").encode("latin-1")
    for kind, text in _SEEDS:
        yield bytes((kind,)) + text.encode("latin-1")


def in_words(data: bytes) -> str:
    """Return an input as text."""
    options = data[0] if data else 0
    return f"options {options:#04x}: {KINDS[options & 3]}\n" + repr(data[1:])[:2_000]


TARGET = Target(
    name="negotiation",
    doc="Accept, and the fields of both paths over HTTP, against what the specification says",
    check=check,
    seeds=seeds,
    mutate=texts.mutator(WORDS),
    cross=texts.cross,
    smaller=texts.smaller,
    tokens=lambda: WORDS,
    show=in_words,
    watch=("muxwire.http.negotiation", "muxwire.http.fields", "muxwire.callhome.fields",
           "muxwire.overhttp"),
    longest=1_024,
)  # fmt: skip
