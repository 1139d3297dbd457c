"""What the model worker makes of the head of a request: admitted, or which answer (section 21.2).

The rules of this file: of several answers that apply, the first of the table is given (P1-015).
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import model_wire as w
from model_http_format import choose, is_json
from model_subjects import SUBJECTS

if TYPE_CHECKING:
    from model_http import HttpServer

ROOT = "/v1/rpc/response"
JSON, OCTETS = "application/json", "application/octet-stream"
MOST_FIELDS = 16_384
U32_MAX = 0xFFFFFFFF

Fields = list[tuple[str, str]]

_SUBJECT = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_KEY = re.compile(r"[a-z0-9._-]{1,64}")
_TRACE = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_HOP = {
    "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding",
    "upgrade", "host", "content-length", "expect", "accept-encoding",
}  # fmt: skip


class RefusedError(Exception):
    """An answer that is not 200."""

    def __init__(self, status: int, code: int, text: str, fields: Fields | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.text = text
        self.fields = fields or []


@dataclass
class Request:
    """A request as it is admitted."""

    subject: str
    headers: Fields
    content_type: str
    format: str = "sse"
    type: str = ""
    timeout_ms: int = 0
    heartbeat_ms: int = 15_000
    rid: bytes = field(default_factory=lambda: uuid.uuid4().bytes)
    body: bytes = b""


def read_head(http: HttpServer, method: str, target: str, fields: Fields) -> Request:
    """Decide about a request as far as its head tells.

    Raises:
        RefusedError: It gets another answer than 200.
    """
    flaw = http.flaw
    root, _, subject = target.rpartition("/")
    if (root != ROOT and not flaw("http-root-is-free")) or not subject:
        raise RefusedError(404, w.NOT_FOUND, "no such path")
    if method != "POST" and not (method == "GET" and flaw("http-get-is-served")):
        allow = [] if flaw("http-405-without-allow") else [("allow", "POST")]
        raise RefusedError(405, w.INVALID_ARGUMENT, "only POST is served", allow)
    if http.draining:
        raise RefusedError(503, w.DRAINING, "draining", [("connection", "close")])
    values: dict[str, str] = {}
    for name, value in fields:
        values[name] = f"{values[name]}, {value}" if name in values else value
    if flaw("http-wrong-order") and choose(values.get("accept", ""), flaw) is None:
        raise RefusedError(406, w.INVALID_ARGUMENT, "text/event-stream is offered")
    request = Request(subject, _headers(http, fields), values.get("content-type", OCTETS))
    _numbers(http, request, values)
    if not _SUBJECT.fullmatch(subject) or len(subject) > 255:
        raise RefusedError(400, w.INVALID_ARGUMENT, "the subject is malformed")
    if "last-event-id" in values and not flaw("http-resumes"):
        raise RefusedError(400, w.INVALID_ARGUMENT, "there is no way to resume a response")
    _format(http, request, values)
    _type(http, request, values)
    if subject not in SUBJECTS:
        raise RefusedError(404, w.NOT_FOUND, "no handler has this subject")
    if http.full():
        after = [] if flaw("http-overloaded-for-ever") else [("retry-after", "1")]
        raise RefusedError(503, w.OVERLOADED, "too many requests", after)
    length = values.get("content-length", "0")
    if length.isdigit() and int(length) > http.max_message:
        too_large(http)
    return request


def too_large(http: HttpServer) -> None:
    """Refuse a body that is too large, unless a flaw lets it in.

    Raises:
        RefusedError: It is refused.
    """
    if not http.flaw("http-reads-any-body") and not http.flaw("http-reads-body-first"):
        raise RefusedError(413, w.MESSAGE_TOO_LARGE, "the body is too large")


def check_body(http: HttpServer, request: Request) -> None:
    """Decide about a request when its body is there.

    Raises:
        RefusedError: It gets another answer than 200.
    """
    if len(request.body) > http.max_message and http.flaw("http-reads-body-first"):
        raise RefusedError(413, w.MESSAGE_TOO_LARGE, "the body is too large")
    declared = request.content_type == JSON
    if (
        declared
        and request.body
        and not is_json(request.body, http.flaw)
        and not http.flaw("http-accepts-no-json")
    ):
        raise RefusedError(400, w.INVALID_ARGUMENT, "the body is not JSON")


def _headers(http: HttpServer, fields: Fields) -> Fields:
    hop = set(_HOP)
    for name, value in fields:
        if name == "connection":
            hop |= {one.strip().lower() for one in value.split(",")}
    found = []
    for name, value in fields:
        if name in hop or name.startswith(("wmx-", "wch-")):
            continue
        try:
            text = value.encode("latin-1").decode("utf-8")
        except UnicodeDecodeError:
            text = "\0"
        found.append((name, text))
    names = [name for name, _value in found]
    wrong = (
        len(found) > 64
        or len(set(names)) < len(names)
        or not all(_KEY.fullmatch(name) for name in names)
        or any("\0" in value or len(value.encode()) > 8_192 for _name, value in found)
    )
    if wrong and not http.flaw("http-accepts-bad-header"):
        raise RefusedError(400, w.INVALID_ARGUMENT, "a header is malformed")
    for name, value in found:
        if (
            name == "traceparent"
            and not _TRACE.fullmatch(value)
            and http.flaw("http-bad-trace-fails")
        ):
            raise RefusedError(400, w.INVALID_ARGUMENT, "traceparent is malformed")
    if "traceparent" in names and http.flaw("http-drops-trace"):
        return [pair for pair in found if pair[0] != "traceparent"]
    return found


def _numbers(http: HttpServer, request: Request, values: dict[str, str]) -> None:
    text = values.get("wmx-timeout-ms", "0")
    if re.fullmatch(r"[0-9]{1,10}", text) and int(text) <= U32_MAX:
        request.timeout_ms = int(text)
    elif not http.flaw("http-accepts-bad-timeout"):
        raise RefusedError(400, w.INVALID_ARGUMENT, "wmx-timeout-ms is malformed")
    text = values.get("wmx-heartbeat-ms", "15000")
    if re.fullmatch(r"[0-9]{1,10}", text) and 100 <= int(text) <= 60_000:
        request.heartbeat_ms = int(text)
    elif not http.flaw("http-accepts-bad-heartbeat"):
        raise RefusedError(400, w.INVALID_ARGUMENT, "wmx-heartbeat-ms is malformed")


def _format(http: HttpServer, request: Request, values: dict[str, str]) -> None:
    chosen = choose(values.get("accept", ""), http.flaw)
    if chosen is None:
        text = "offered: text/event-stream, application/x-ndjson, application/vnd.wmx-stream"
        raise RefusedError(406, w.INVALID_ARGUMENT, text)
    request.format, request.type = chosen
    try:
        given = uuid.UUID(values.get("request-id", "")).bytes
    except ValueError:
        return
    if len(values["request-id"]) == 36 and not http.flaw("http-binary-other-id"):
        request.rid = given


def _type(http: HttpServer, request: Request, values: dict[str, str]) -> None:
    if "content-type" not in values and http.flaw("http-needs-content-type"):
        raise RefusedError(415, w.INVALID_ARGUMENT, "there is no Content-Type")
    request.content_type = request.content_type.partition(";")[0].strip().lower()
    if request.content_type not in (JSON, OCTETS) and not http.flaw("http-any-content-type"):
        raise RefusedError(415, w.INVALID_ARGUMENT, "this Content-Type is not served")
    coding = values.get("content-encoding", "identity").strip().lower()
    if coding != "identity" and not http.flaw("http-any-coding"):
        raise RefusedError(415, w.INVALID_ARGUMENT, "this Content-Encoding is not served")
