from __future__ import annotations

import inspect
import re

import pytest
from muxwire import errors
from muxwire._generated.registries import ErrorCode
from muxwire.errors import (
    ApplicationError,
    ConnectionLost,
    HandlerError,
    MuxwireError,
    Outcome,
    ProtocolViolation,
    RemoteProtocolError,
    RequestFailed,
    failure,
)

CLASSES = [
    item for item in vars(errors).values() if inspect.isclass(item) and issubclass(item, Exception)
]


def test_the_tree_is_drawn_as_it_is() -> None:
    """Every class stands in the docstring, below its base."""
    drawing = inspect.getdoc(errors) or ""
    depth = {}
    for line in drawing.splitlines():
        found = re.match(r"[ |]*(?:[+`]-- )?([A-Z]\w+)(?: |$)", line)
        if found and found[1] in vars(errors):
            depth[found[1]] = found.start(1)
    for item in CLASSES:
        assert item.__name__ in depth, item
        if item is not MuxwireError:
            assert depth[item.__bases__[0].__name__] < depth[item.__name__]


def test_everything_has_one_root_and_is_public() -> None:
    for item in CLASSES:
        assert issubclass(item, MuxwireError)
        assert item.__name__ in errors.__all__
    assert errors.__all__ == sorted(errors.__all__)


def test_a_violation_says_where_and_why() -> None:
    violation = ProtocolViolation(ErrorCode.PROTOCOL_ERROR, "connection", "FRM-002", "marker")
    assert isinstance(violation, RemoteProtocolError)
    assert (violation.code, violation.scope) == (1, "connection")
    assert str(violation) == "FRM-002: marker"


@pytest.mark.parametrize("code", [c for c in ErrorCode if c > 0xFF])
def test_each_stream_code_has_its_class(code: ErrorCode) -> None:
    kind = failure(code, code.name)
    assert issubclass(kind, RequestFailed)
    assert (kind is ApplicationError) == (code == ErrorCode.APPLICATION_ERROR)
    assert code.name in (kind.__doc__ or "")


def test_codes_that_a_request_cannot_have() -> None:
    assert failure(None, None) is ConnectionLost
    assert failure(0x8000_0000, None) is ApplicationError
    assert failure(2, "INTERNAL_ERROR") is ApplicationError
    assert failure(2, "INTERNAL_ERROR", local=True) is ConnectionLost


def test_a_failed_request_tells_its_story() -> None:
    error = RequestFailed(
        outcome=Outcome.PARTIAL, code=0x108, code_name="SHUTDOWN", messages=3, message="stopped"
    )
    assert str(error) == "SHUTDOWN (PARTIAL, 3 messages received): stopped"
    assert str(RequestFailed(outcome=Outcome.AMBIGUOUS)) == "no answer (AMBIGUOUS)"
    assert not error.not_processed
    assert RequestFailed(outcome=Outcome.NOT_SENT).not_processed


def test_classes_are_ordered() -> None:
    assert [outcome.name for outcome in sorted(Outcome)] == [
        "NOT_SENT",
        "NOT_PROCESSED",
        "AMBIGUOUS",
        "FAILED",
        "PARTIAL",
    ]


def test_a_handler_s_error_is_an_application_error_by_default() -> None:
    assert HandlerError("x").code == ErrorCode.APPLICATION_ERROR
