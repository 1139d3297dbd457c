"""Every row of the table of a response over HTTP, as its caller sees it (chapter 22.5).

A row is driven by the calls that an HTTP library's events become, and by octets of NDJSON.  Its
effect is read off what the caller is told and when the response wants to be woken.
"""

from __future__ import annotations

from collections.abc import Callable

from http_core import SILENCE, START, Caller, begin, headed
from muxwire._generated import machines as m
from muxwire._generated.registries import HTTP_END_TIMEOUT_MS, NOT_PROCESSED, ErrorCode
from muxwire.core.http import READERS, Response
from muxwire.core.http.response import HELD
from muxwire.errors import Outcome
from table_rows import Machine

STREAM = Machine("HTTP_STREAM")
LATER = START + 1.0
END_TIMEOUT = HTTP_END_TIMEOUT_MS / 1000


def item(seq: int) -> bytes:
    return b'{"t":"bin","seq":%d,"b64":"YQ=="}\n' % seq


def done(items: int) -> bytes:
    return b'{"t":"done","items":%d,"trailers":{}}\n' % items


def error(items: int) -> bytes:
    return b'{"t":"error","num":263,"message":"no","items":%d}\n' % items


def there(state: int, caller: Caller) -> Response:
    if state <= m.HTTP_STREAM_SENT:
        response = begin(caller)
        if state == m.HTTP_STREAM_SENT:
            response.posted()
            response.sent(START)
    else:
        response = headed(caller, "ndjson")
    if state in (m.HTTP_STREAM_ITEMS, m.HTTP_STREAM_ENDING):
        response.receive(item(0), START)
    if state == m.HTTP_STREAM_ENDING:
        response.receive(done(1), START)
    if state == m.HTTP_STREAM_OVER:
        response.receive(error(0), START)
    assert response.state == state
    return response


def octets(make: Callable[[int], bytes]) -> Callable[[Response, int], None]:
    """Feed what `make` returns for the number of items so far."""
    return lambda response, count: response.receive(make(count), LATER)


def silence(response: Response, _: int) -> None:
    assert response.next_timeout() == START + SILENCE
    response.handle_timeout(START + SILENCE)


def no_end(response: Response, _: int) -> None:
    assert response.next_timeout() == START + END_TIMEOUT
    response.handle_timeout(START + END_TIMEOUT)


ACTIONS: dict[int, Callable[[Response, int], None]] = {
    m.IN_HTTP_STREAM_POSTED: lambda response, _: response.posted(),
    m.IN_HTTP_STREAM_STARTED: lambda r, _: r.started(READERS["ndjson"](9), LATER),
    m.IN_HTTP_STREAM_REFUSED: lambda r, _: r.refused(ErrorCode.OVERLOADED, "full", 7),
    m.IN_HTTP_STREAM_UNCLEAR: lambda r, _: r.unclear("HTTP 502"),
    m.IN_HTTP_STREAM_ITEM: octets(item),
    m.IN_HTTP_STREAM_DONE: octets(done),
    m.IN_HTTP_STREAM_ERROR: octets(error),
    m.IN_HTTP_STREAM_MISCOUNT: octets(lambda count: done(count + 1)),
    m.IN_HTTP_STREAM_SURPLUS: octets(item),
    m.IN_HTTP_STREAM_FAULT: octets(lambda _: b"oops\n"),
    m.IN_HTTP_STREAM_END: lambda r, _: r.ended(),
    m.IN_HTTP_STREAM_CUT: lambda r, _: r.cut("gone"),
    m.IN_HTTP_STREAM_SILENT: silence,
    m.IN_HTTP_STREAM_UNENDED: no_end,
    m.IN_HTTP_STREAM_LOCAL_KILL: lambda r, _: r.kill(ErrorCode.CANCELLED, "killed"),
}

_EFFECTS = {
    Outcome.NOT_SENT: m.EFFECT_NOT_SENT,
    Outcome.NOT_PROCESSED: m.EFFECT_NOT_PROCESSED,
    Outcome.AMBIGUOUS: m.EFFECT_AMBIGUOUS,
    Outcome.FAILED: m.EFFECT_FAILED,
    Outcome.PARTIAL: m.EFFECT_PARTIAL,
}


def seen_effect(state: int, response: Response, caller: Caller, messages: int) -> int:
    """Tell the effect by what the caller was told, and by the times."""
    if caller.trailers is not None:
        return m.EFFECT_SUCCEED
    if caller.error is not None:
        return _EFFECTS[caller.error.outcome]
    if len(caller.messages) > messages:
        return m.EFFECT_DELIVER
    if response.next_timeout() == LATER + END_TIMEOUT:
        return m.EFFECT_AWAIT_END
    if response.begun and state == m.HTTP_STREAM_UNSENT:
        return m.EFFECT_COUNT
    return m.EFFECT_IGNORE


@STREAM.each_row()
def test_a_row_of_a_response(state: int, input_: int) -> None:
    caller = Caller()
    response = there(state, caller)
    told, messages = caller.error, len(caller.messages)
    caller.error = None
    words = caller.words
    ACTIONS[input_](response, messages)
    STREAM.assert_obeyed(
        state, input_, seen_effect(state, response, caller, messages), response.state
    )
    assert caller.words == words + (caller.error is not None or caller.trailers is not None)
    if caller.error is not None:
        assert caller.error.messages == len(caller.messages)
        assert told is None


def test_what_a_failure_says() -> None:
    for input_, expected in (
        (m.IN_HTTP_STREAM_REFUSED, (ErrorCode.OVERLOADED, False, "full", 7, NOT_PROCESSED)),
        (m.IN_HTTP_STREAM_UNCLEAR, (None, True, "HTTP 502", 0, 0)),
        (m.IN_HTTP_STREAM_LOCAL_KILL, (ErrorCode.CANCELLED, True, "killed", 0, 0)),
    ):
        caller = Caller()
        ACTIONS[input_](there(m.HTTP_STREAM_SENT, caller), 0)
        told = caller.error
        assert told is not None
        said = (told.code, told.local, told.message, told.retry_after_ms, told.error_flags)
        assert said == expected


# -- time ------------------------------------------------------------------------------------------


def test_any_octet_is_a_sign_of_life() -> None:  # P1-021
    response = headed(Caller(), "sse")
    for step in range(1, 30):
        response.receive(b":", START + step * 9)
        response.handle_timeout(START + step * 9 + 9.5)
        assert not response.over
    assert response.next_timeout() == START + 29 * 9 + SILENCE


def test_the_silence_of_a_paused_caller_is_its_own() -> None:  # P1-021
    caller = Caller()
    response = headed(caller, "sse")
    response.receive(b'id: 0\nevent: item\ndata: "' + b"x" * HELD + b'"\n\n', START)
    assert response.full
    response.handle_timeout(START + 1_000)
    assert not caller.words
    response.consumed(caller.costs[0], START + 1_000)
    assert not response.full
    response.handle_timeout(START + 1_000 + SILENCE - 0.1)
    assert not caller.words
    response.handle_timeout(START + 1_000 + SILENCE)
    assert caller.outcome == "PARTIAL"


def test_behind_done_a_paused_caller_is_read_on() -> None:  # P1-020
    caller = Caller()
    response = headed(caller, "ndjson")
    line = b'{"t":"item","seq":0,"data":"' + b"x" * HELD + b'"}\n'
    response.receive(line + done(1), START)
    assert not response.full
    response.consumed(caller.costs[0], START)
    assert response.next_timeout() == START + END_TIMEOUT
    response.ended()
    assert caller.outcome == "SUCCESS"


def test_time_begins_with_the_end_of_the_request() -> None:  # P1-021
    caller = Caller()
    response = begin(caller)
    response.posted()
    response.handle_timeout(START + 1_000)
    assert not caller.words
    response.sent(START + 1_000)
    response.handle_timeout(START + 1_000 + SILENCE)
    assert caller.outcome == "AMBIGUOUS"


def test_the_deadline() -> None:  # REC-005
    caller = Caller()
    response = begin(caller, deadline=START + 3)
    response.handle_timeout(START + 3)
    assert caller.outcome == "NOT_SENT"

    caller = Caller()
    response = headed(caller, "sse", deadline=START + 3)
    response.handle_timeout(START + 3)
    assert not caller.words  # the worker's own answer normally comes first
    assert START + 3.5 <= response.next_timeout() <= START + 4.0
    response.handle_timeout(START + 4)
    assert caller.error is not None
    assert (caller.outcome, caller.error.code) == ("FAILED", ErrorCode.DEADLINE_EXCEEDED)


# -- a caller that acts while it is told -----------------------------------------------------------


def test_a_caller_may_kill_while_it_takes_an_item() -> None:
    class Impatient(Caller):
        def on_message(self, data: bytes, cost: int) -> None:
            super().on_message(data, cost)
            response.kill(ErrorCode.CANCELLED, "enough")

    caller = Impatient()
    response = headed(caller, "ndjson")
    response.receive(item(0) + item(1) + done(2), START)
    response.ended()
    assert (caller.outcome, caller.messages) == ("FAILED", [b"a"])
