from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from muxwire._generated.registries import ErrorCode
from muxwire.core.flow import ReceiveCredit, SendCredit, StreamCredit, check_limit
from muxwire.errors import ProtocolViolation


def test_a_limit_is_absolute_and_only_rises() -> None:
    credit = SendCredit(100)
    assert not credit.raise_to(100)
    assert not credit.raise_to(99)
    assert credit.raise_to(101)
    assert credit.limit == 101


def test_limits_of_2_to_the_63_are_refused() -> None:
    assert check_limit(2**63 - 1) == 2**63 - 1
    with pytest.raises(ProtocolViolation) as caught:
        check_limit(2**63)
    assert (caught.value.code, caught.value.requirement) == (
        ErrorCode.FLOW_CONTROL_ERROR,
        "FLW-003",
    )


def test_each_limit_is_enforced_to_the_unit() -> None:
    credit = ReceiveCredit(1000, 400)
    stream = StreamCredit(400)
    credit.charge_stream(stream, 400)
    with pytest.raises(ProtocolViolation, match="FLW-002: stream"):
        credit.charge_stream(stream, 1)
    credit = ReceiveCredit(1000, 400)
    credit.charge(1000)
    with pytest.raises(ProtocolViolation, match="FLW-002: connection"):
        credit.charge(1)


def test_an_opening_frame_must_fit_the_stream_window() -> None:
    credit = ReceiveCredit(1000, 400)
    credit.charge(401)
    with pytest.raises(ProtocolViolation, match="FLW-002: stream"):
        credit.adopt(StreamCredit(400), 401)


def test_stream_updates_come_in_quarters() -> None:
    credit = ReceiveCredit(1_000_000, 400)
    stream = StreamCredit(400)
    credit.charge_stream(stream, 400)
    assert not credit.give_back(stream, 99)
    assert credit.give_back(stream, 1)
    assert not credit.give_back(stream, 300)  # noted already
    assert credit.update_stream(stream) == 800
    assert stream.held == 0


def test_unread_input_holds_at_most_half_of_the_connection_window() -> None:
    credit = ReceiveCredit(1000, 10_000)
    stream = StreamCredit(10_000)
    credit.charge_stream(stream, 500)
    assert credit.update() is None
    credit.charge_stream(stream, 500)
    assert credit.update() == 1500
    credit.charge_stream(stream, 500)
    assert credit.update() == 2000


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 80), st.booleans()), max_size=200))
def test_credit_is_conserved(steps: list[tuple[int, int, bool]]) -> None:
    """Whatever comes and goes, half of each window is free once everything has been taken."""
    credit = ReceiveCredit(1000, 300)
    streams = [StreamCredit(300) for _ in range(4)]
    for number, cost, take in steps:
        stream = streams[number]
        if take:
            part = min(cost, stream.held)
            if credit.give_back(stream, part):
                credit.update_stream(stream)
        elif stream.received + cost <= stream.limit and credit.received + cost <= credit.limit:
            credit.charge_stream(stream, cost)
        credit.update()
        assert credit.held == sum(stream.held for stream in streams)
    for stream in streams:
        if credit.give_back(stream, stream.held):
            credit.update_stream(stream)
        assert stream.limit - stream.received >= 150  # FLW-006
    credit.update()
    assert credit.held == 0
    assert credit.limit - credit.received >= 500
