"""What the two paths over HTTP make of a POST: its fields, and the answers that refuse it.

Rules of this file: it knows the tables of section 21.2 and no HTTP library.  A refusal says
`wmx-not-processed` exactly when its row of the table does.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterable
from math import ceil
from typing import Any, NamedTuple

from muxwire._generated import http
from muxwire._generated.registries import MAX_ERROR_MESSAGE, ErrorCode
from muxwire.core.http.reading import is_json, is_u32
from muxwire.core.metadata import Header
from muxwire.errors import InvalidArgument

JSON = "application/json"
OCTETS = "application/octet-stream"

_MEDIA_TYPES = (JSON, OCTETS)


LARGEST_ERROR = 65_536
"""Octets of an error object that are read."""

_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""Fields that concern one hop (RFC 9110 section 7.6.1)."""

_OWN = frozenset((b"host", b"content-length", b"expect", b"accept-encoding"))
_PREFIXES = (b"wch-", b"wmx-")


class Refusal(Exception):  # noqa: N818 - it is an answer
    """An answer to a POST whose handler does not run.

    Attributes:
        answer: Its row of the table.
        message: The message of its error object.
        retry_after_ms: The hint that goes with it; 0: none.
    """

    def __init__(self, answer: http.Answer, message: str, retry_after_ms: int = 0) -> None:
        super().__init__(message)
        self.answer = answer
        self.message = message
        self.retry_after_ms = retry_after_ms

    def fields(self) -> dict[str, str]:
        """Return the fields of the answer, in the order of the table."""
        found = {"content-type": JSON}
        if self.answer.not_processed:
            found[http.WMX_NOT_PROCESSED] = "1"
        if self.answer is http.METHOD:
            found["allow"] = "POST"
        if self.answer is http.DRAINING:
            found["connection"] = "close"
        if self.answer is http.OVERLOADED:
            found["retry-after"] = str(max(1, ceil(self.retry_after_ms / 1000)))
        return found

    def body(self) -> bytes:
        """Return the error object, as octets."""
        answer = self.answer
        members = error_object(
            answer.code, self.message, self.retry_after_ms, not_processed=answer.not_processed
        )
        return json.dumps(members).encode()


def error_object(
    code: int, message: str, retry_after_ms: int = 0, *, not_processed: bool = False
) -> dict[str, Any]:
    """Return the members of an error object; the message is cut at a character boundary."""
    text = message.encode(errors="replace")[:MAX_ERROR_MESSAGE]
    try:
        name = ErrorCode(code).name
    except ValueError:
        name = f"{code:#x}"
    return {
        "code": name,
        "num": code,
        "message": text.decode(errors="ignore"),
        "not_processed": not_processed,
        "retry_after_ms": retry_after_ms,
    }


class Said(NamedTuple):
    """What an answer says that is no success."""

    code: int | None
    message: str
    retry_after_ms: int


def read_error(status: int, body: bytes, retry_after: str | None) -> Said:
    """Read the error object of an answer; one that is malformed says nothing (section 21.2).

    Args:
        status: The status of the answer.
        body: Its first octets, `LARGEST_ERROR` at most.
        retry_after: The field Retry-After, which counts if the object has no hint.
    """
    hint = _seconds(retry_after or "") * 1000
    message = f"HTTP {status}"
    code: int | None = None
    try:
        members = json.loads(body)
    except (ValueError, RecursionError):
        members = None
    if isinstance(members, dict):
        number, text = members.get("num"), members.get("message")
        if is_u32(number):
            code = number
        if isinstance(text, str):
            message = text[:MAX_ERROR_MESSAGE]
        if is_u32(members.get("retry_after_ms")):
            hint = members["retry_after_ms"] or hint
    return Said(code, message, min(hint, 2**32 - 1))


def _seconds(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 9 else 0


def subject(root: str, path: str) -> str:
    """Return the one segment behind the root of a path whose escapes are as they came.

    Octets that are no UTF-8 come as surrogates.

    Raises:
        Refusal: It is another path.
    """
    before, separator, segment = path.rpartition("/")
    if before != root or not separator or not segment:
        raise Refusal(http.WRONG_PATH, "no such path")
    return urllib.parse.unquote(segment, errors="surrogateescape")


def check_media_type(declared: str | None, coding: str | None) -> str:
    """Return the media type of a body, in lower case and without parameters.

    Args:
        declared: The field Content-Type.
        coding: The field Content-Encoding.

    Raises:
        Refusal: The body is neither JSON nor octets, or it is encoded.
    """
    media_type = (declared or OCTETS).partition(";")[0].strip().lower()
    if media_type not in _MEDIA_TYPES or (coding or "identity").strip().lower() != "identity":
        raise Refusal(http.MEDIA_TYPE, "the body is JSON or octets, and not encoded")
    return media_type


def check_body(media_type: str, body: bytes) -> None:
    """Refuse a body that is declared as JSON and is not JSON.

    Raises:
        Refusal: It is.
    """
    if media_type == JSON and not is_json(body):
        raise Refusal(http.PARAMETERS, "the body is not JSON")


def for_the_handler(headers: Iterable[Header]) -> list[Header]:
    """Return what a handler sees, without what concerns these paths or one hop.

    Args:
        headers: The fields of the request in their order, with names in lower case.
    """
    headers = list(headers)
    named = {
        option.strip().lower()
        for name, value in headers
        if name == b"connection"
        for option in value.split(b",")
    }
    return [(name, value) for name, value in headers if _passes(name) and name not in named]


def for_the_wire(headers: Iterable[Header]) -> list[tuple[str, str]]:
    """Return the headers of a request as fields.

    Raises:
        InvalidArgument: A header has a name that HTTP or these paths use themselves, or a value
            that HTTP would change (section 21.2).
    """
    fields = []
    for name, value in headers:
        if not _passes(name):
            raise InvalidArgument(f"the header {name.decode()} is not for the handler (PAY-005)")
        if value != value.strip(b" \t"):
            raise InvalidArgument(f"the value of {name.decode()} begins or ends with white space")
        fields.append((name.decode(), value.decode()))
    return fields


def _passes(name: bytes) -> bool:
    return name not in _HOP and name not in _OWN and not name.startswith(_PREFIXES)
