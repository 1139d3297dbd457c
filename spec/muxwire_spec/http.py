"""What the two paths over HTTP have in common: request fields, answers before the stream, errors.

`callhome` is chapter 21: the answer is 202 and the response comes over another connection. `http`
is chapter 22: the response is the body of a 200. The error object is the JSON of every other
answer, and of an error event inside a stream.
"""

from __future__ import annotations

from muxwire_spec import formats
from muxwire_spec.model import Http, HttpAnswer, HttpField, Member

CALLHOME = "callhome"
HTTP = "http"
_BOTH = (CALLHOME, HTTP)


def _field(
    name: str, paths: tuple[str, ...], form: str, doc: str, *, required: bool = False
) -> HttpField:
    return HttpField(name=name, paths=paths, form=form, required=required, doc=doc)


_MS = "decimal, 0 to 4,294,967,295"

FIELDS: tuple[HttpField, ...] = (
    _field(
        "wch-addr",
        (CALLHOME,),
        "`host:port`, an IPv4 address or an IPv6 address in brackets, and a port from 1",
        "where the router listens",
        required=True,
    ),
    _field(
        "wch-stream",
        (CALLHOME,),
        "UUID in text form, 36 characters; neither all zeros nor all ones",
        "the request id of the RESPONSE frames",
        required=True,
    ),
    _field(
        "wch-token",
        (CALLHOME,),
        "base64url of 16 octets: 22 characters without padding, unused bits 0",
        "what the HELLO has to show",
        required=True,
    ),
    _field("wch-timeout-ms", (CALLHOME,), _MS, "`timeout_ms` of the request; missing: 0"),
    _field("wmx-timeout-ms", (HTTP,), _MS, "`timeout_ms` of the request; missing: 0"),
    _field(
        "wmx-heartbeat-ms",
        (HTTP,),
        "decimal, 100 to 60,000",
        "longest silence in the stream; missing: 15,000",
    ),
    _field("request-id", _BOTH, "as in chapter 16", "equal in all attempts (REC-007)"),
    _field("attempt", _BOTH, "decimal, from 2", "number of the attempt (REC-007)"),
    _field("traceparent", _BOTH, "as in chapter 17", "trace context (OBS-001)"),
)


def _answer(
    name: str,
    status: int,
    code: str | None,
    when: str,
    *,
    paths: tuple[str, ...] = _BOTH,
    not_processed: bool = True,
    fields: tuple[str, ...] = (),
) -> HttpAnswer:
    return HttpAnswer(
        name=name,
        status=status,
        code=code,
        paths=paths,
        not_processed=not_processed,
        fields=fields,
        when=when,
    )


ANSWERS: tuple[HttpAnswer, ...] = (
    _answer("WRONG_PATH", 404, "NOT_FOUND", "the path is not the root and one segment behind it"),
    _answer("METHOD", 405, "INVALID_ARGUMENT", "the method is not POST", fields=("allow",)),
    _answer("DRAINING", 503, "DRAINING", "the worker drains", fields=("connection",)),
    _answer(
        "MALFORMED",
        400,
        "INVALID_ARGUMENT",
        "a field `wch-` or `wmx-` is missing or malformed, or a header or the subject is "
        "(PAY-004, PAY-005)",
    ),
    _answer(
        "RESUMED",
        400,
        "INVALID_ARGUMENT",
        "there is a `last-event-id` (P1-019)",
        paths=(HTTP,),
    ),
    _answer(
        "FORBIDDEN",
        403,
        "INVALID_ARGUMENT",
        "`wch-addr` is not allowed (P0-016)",
        paths=(CALLHOME,),
    ),
    _answer(
        "DUPLICATE",
        409,
        "DUPLICATE_REQUEST",
        "`wch-stream` is live (P0-017)",
        paths=(CALLHOME,),
        not_processed=False,
    ),
    _answer(
        "NOT_ACCEPTABLE",
        406,
        "INVALID_ARGUMENT",
        "no format is acceptable; the message lists the three types",
        paths=(HTTP,),
    ),
    _answer(
        "MEDIA_TYPE",
        415,
        "INVALID_ARGUMENT",
        "Content-Type is neither `application/json` nor `application/octet-stream`, or there is "
        "a Content-Encoding other than `identity`",
    ),
    _answer("NOT_FOUND", 404, "NOT_FOUND", "no handler has the subject"),
    _answer(
        "OVERLOADED",
        503,
        "OVERLOADED",
        "MAX_CONCURRENT_REQUESTS requests of the paths over HTTP are running in the process",
        fields=("retry-after",),
    ),
    _answer("TOO_LARGE", 413, "MESSAGE_TOO_LARGE", "the body exceeds MAX_MESSAGE_SIZE"),
    _answer(
        "PARAMETERS",
        400,
        "INVALID_ARGUMENT",
        "the body is declared as JSON and is not JSON",
    ),
    _answer(
        "BROKEN",
        500,
        "REQUEST_INTERNAL_ERROR",
        "the worker failed before it could decide",
        not_processed=False,
    ),
    _answer(
        "OK",
        200,
        None,
        "the handler is admitted; the body is the response",
        paths=(HTTP,),
        not_processed=False,
    ),
    _answer(
        "ADMITTED",
        202,
        None,
        "the handler is admitted; the response comes over a call-home connection",
        paths=(CALLHOME,),
        not_processed=False,
    ),
)


def _member(name: str, type_: str, doc: str) -> Member:
    return Member(name=name, type=type_, doc=doc)


ERROR: tuple[Member, ...] = (
    _member("code", "string", "name in the registry of error codes"),
    _member("num", "number", "its value"),
    _member("message", "string", "for people, at most 1,024 octets of UTF-8"),
    _member("not_processed", "boolean", "as the error flag NOT_PROCESSED"),
    _member("retry_after_ms", "number", "0: not said; prevails over Retry-After"),
)

SHARED = Http(
    fields=FIELDS,
    answers=ANSWERS,
    error=ERROR,
    formats=formats.FORMATS,
    events=formats.EVENTS,
    constants=formats.CONSTANTS,
)
