"""The state machines: connected as they should be, and the same in the generated tables.

That they are total, closed and reachable is checked by `soundness`, which has tests of its own.
"""

from __future__ import annotations

import itertools
from types import ModuleType

import pytest
from muxwire._generated import machines as generated
from muxwire._generated.registries import ErrorCode
from muxwire_spec.machines import (
    CLIENT_CONNECTION,
    CLIENT_HANDSHAKE,
    CLIENT_REQUEST,
    HEARTBEAT_IN,
    HEARTBEAT_OUT,
    HTTP_STREAM,
    MACHINES,
    RECOVERY,
    WCH_ROUTER_CONNECTION,
    WCH_ROUTER_STREAM,
    WCH_WORKER_CONNECTION,
    WCH_WORKER_STREAM,
    WORKER_CONNECTION,
    WORKER_HANDSHAKE,
    WORKER_REQUEST,
)
from muxwire_spec.model import Machine, Row

each = pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
connections = pytest.mark.parametrize(
    "machine", [WORKER_CONNECTION, CLIENT_CONNECTION], ids=lambda machine: machine.name
)
GENERATED: ModuleType = generated
LAST = {"CLOSED", "FAILED", "OVER", "DONE", "GONE", "VOID"}


def row(machine: Machine, state: str, input_: str) -> Row:
    (found,) = [r for r in machine.rows if (r.state, r.input) == (state, input_)]
    return found


def after(machine: Machine, *inputs: str) -> tuple[str, str]:
    """Return the last effect and the state behind a run of inputs from the first state."""
    state, effect = machine.states[0], ""
    for input_ in inputs:
        found = row(machine, state, input_)
        assert found.effect != "NONE", (state, input_)
        state, effect = found.next, found.effect
    return effect, state


@each
def test_nothing_leaves_the_last_state(machine: Machine) -> None:
    last = LAST & set(machine.states)
    if machine in (WORKER_HANDSHAKE, CLIENT_HANDSHAKE):
        last = {"FAILED"}
    (state,) = last
    assert {row.next for row in machine.rows if row.state == state} == {state}
    effects = {row.effect for row in machine.rows if row.state == state}
    assert not effects & {"DELIVER", "PASS", "PONG", "PING", "KILL", "APPLY"}


@each
def test_inputs_have_descriptions_of_their_own(machine: Machine) -> None:
    names = [name for name, _ in machine.inputs]
    assert len({doc for _, doc in machine.inputs}) == len(names)


@each
def test_the_generated_table_says_the_same(machine: Machine) -> None:
    assert getattr(GENERATED, f"{machine.name}_STATES") == machine.states
    inputs = tuple(name for name, _ in machine.inputs)
    assert getattr(GENERATED, f"{machine.name}_INPUTS") == inputs
    table = getattr(GENERATED, machine.name)
    for (s, state), (i, input_) in itertools.product(enumerate(machine.states), enumerate(inputs)):
        expected = row(machine, state, input_)
        found = table[s][i]
        assert machine.states[found.state] == expected.next
        assert GENERATED.EFFECTS[found.effect] == expected.effect
        assert found.requirement == expected.requirement
        if expected.breach is None:
            assert found.code == 0
        else:
            assert ErrorCode(found.code).name == expected.breach.code
    assert len(table) == len(machine.states)
    assert {len(line) for line in table} == {len(inputs)}


@each
def test_the_generated_names_are_indices(machine: Machine) -> None:
    for index, state in enumerate(machine.states):
        assert getattr(GENERATED, f"{machine.prefix}{state}") == index
    for index, (name, _) in enumerate(machine.inputs):
        assert getattr(GENERATED, f"IN_{machine.prefix}{name}") == index


def test_the_machines_of_a_request_have_bare_names() -> None:
    """The core of the reference uses them."""
    assert [machine.name for machine in MACHINES if not machine.prefix] == [
        "WORKER_REQUEST",
        "CLIENT_REQUEST",
    ]
    assert (generated.IDLE, generated.KILLED, generated.KILLING, generated.CLOSED) == (0, 3, 3, 4)


class TestRequest:
    def test_a_worker_frees_a_place_only_with_the_terminal_or_the_connection(self) -> None:
        """No frame of a client leads to CLOSED (section 3.4)."""
        ends = {row.input for row in WORKER_REQUEST.rows if row.next == "CLOSED" != row.state}
        assert ends == {"TERMINAL", "LOST"}

    def test_what_was_never_sent_is_classified_and_not_not_processed(self) -> None:
        """It moves to another connection as NOT_SENT (section 7.3)."""
        assert row(CLIENT_REQUEST, "IDLE", "NOT_COVERED").effect == "CLASSIFY"
        assert row(CLIENT_REQUEST, "IDLE", "CLIENT_LOST").effect == "CLASSIFY"


class TestHandshake:
    @pytest.mark.parametrize("machine", [WORKER_HANDSHAKE, CLIENT_HANDSHAKE])
    def test_the_way_to_the_end(self, machine: Machine) -> None:
        assert after(machine, "PREFACE_GOOD", "SETTINGS", "SETTINGS_ACK") == ("LISTEN", "DONE")
        assert after(machine, "PREFACE_GOOD", "SETTINGS", "FRAME") == ("PASS", "ACK")

    @pytest.mark.parametrize("input_", ["SETTINGS_ACK", "FRAME"])
    def test_only_settings_come_first(self, input_: str) -> None:
        for machine in (WORKER_HANDSHAKE, CLIENT_HANDSHAKE):
            found = row(machine, "SETTINGS", input_)
            assert found.breach is not None
            assert found.requirement == "HSK-005"
            assert found.next == "FAILED"

    def test_a_worker_says_nothing_before_the_magic(self) -> None:
        """HSK-002, HSK-008, HSK-011, CLS-011: whatever fails there, no octet is sent."""
        silent = {"MAGIC_WRONG", "PUSHED_OUT", "TIMEOUT", "LOCAL_DRAIN"}
        for input_ in silent:
            assert row(WORKER_HANDSHAKE, "PREFACE", input_).effect == "DROP"

    def test_only_a_refusing_preface_proves_that_nothing_ran(self) -> None:
        """HSK-010."""
        found = {r.input for r in CLIENT_HANDSHAKE.rows if r.effect == "NOT_PROCESSED"}
        assert found == {"PREFACE_REFUSING"}


class TestConnection:
    def test_a_drain(self) -> None:
        assert after(WORKER_CONNECTION, "LOCAL_DRAIN", "REQUEST") == ("REFUSE", "DRAINING")
        assert after(WORKER_CONNECTION, "LOCAL_DRAIN", "FRAME") == ("PASS", "DRAINING")
        assert after(WORKER_CONNECTION, "LOCAL_DRAIN", "LAST_ENDED") == ("HALF_CLOSE", "CLOSING")
        assert after(WORKER_CONNECTION, "LOCAL_DRAIN", "GRACE_OVER", "CUT_OFF")[1] == "CLOSED"

    def test_a_worker_never_answers_a_goaway(self) -> None:
        """CLS-009."""
        for found in WORKER_CONNECTION.rows:
            if found.input.startswith("GOAWAY"):
                assert found.effect in ("IGNORE", "CANCEL_ALL", "SKIP", "NONE")

    @connections
    def test_nothing_is_processed_while_closing(self, machine: Machine) -> None:
        """STM-006, CLS-002."""
        for found in machine.rows:
            if found.state == "CLOSING":
                assert found.effect in ("SKIP", "IGNORE", "CLOSE", "ELSEWHERE", "NONE")

    @connections
    def test_everything_ends_with_the_stream(self, machine: Machine) -> None:
        """CLS-010, REC-001."""
        for state in machine.states[:-1]:
            found = row(machine, state, "EOF")
            assert found.next == "CLOSED"
            assert found.effect == ("CLOSE" if state == "CLOSING" else "LOSE")

    def test_a_client_opens_only_where_no_goaway_has_been(self) -> None:
        """CLS-008, CLS-009."""
        for state in CLIENT_CONNECTION.states:
            effect = row(CLIENT_CONNECTION, state, "LOCAL_OPEN").effect
            assert effect == ("PASS" if state == "OPEN" else "ELSEWHERE")


class TestHeartbeat:
    def test_silence_counts_from_settings_ack_and_a_frame_from_its_first_octet(self) -> None:
        deaf = ("DEAF", "DEAF_FRAME")
        for state in HEARTBEAT_IN.states[:-1]:
            silence = row(HEARTBEAT_IN, state, "SILENCE")
            assert (silence.breach is None) == (state in deaf)
            assert (row(HEARTBEAT_IN, state, "DRIBBLE").breach is None) == (
                not state.endswith("_FRAME")
            )

    def test_a_ping_is_owed_only_when_nothing_waits(self) -> None:
        """HBT-001."""
        sends = [r.state for r in HEARTBEAT_OUT.rows if (r.input, r.effect) == ("HALF", "PING")]
        assert sends == ["OBLIGED"]

    def test_eight_unanswered_are_enough(self) -> None:
        """HBT-007."""
        for state in ("OBLIGED", "OBLIGED_PENDING"):
            assert row(HEARTBEAT_OUT, state, "LOCAL_PING").effect == "PING"
            assert row(HEARTBEAT_OUT, state, "LOCAL_PING_SURPLUS").effect == "MISUSE"


class TestRecovery:
    def test_a_success_is_reported_once_and_only_from_an_open_attempt(self) -> None:
        found = {r.state for r in RECOVERY.rows if r.effect == "SUCCEED"}
        assert found == {"SENT", "RESPONDING"}

    def test_a_killed_request_is_never_tried_again(self) -> None:
        """STM-002."""
        reached = {"KILLED", "KILLED_RESPONDING"}
        while more := {r.next for r in RECOVERY.rows if r.state in reached} - reached:
            reached |= more
        assert reached == {"KILLED", "KILLED_RESPONDING", "DONE"}

    def test_only_a_complete_open_uses_an_attempt_up(self) -> None:
        """REC-005."""
        assert [(r.state, r.input) for r in RECOVERY.rows if r.effect == "COUNT"] == [
            ("WAITING", "OPENED")
        ]

    @pytest.mark.parametrize("state", RECOVERY.states[:-1])
    def test_no_state_is_a_dead_end(self, state: str) -> None:
        reached = {state}
        while more := {r.next for r in RECOVERY.rows if r.state in reached} - reached:
            reached |= more
        assert "DONE" in reached


class TestCallhome:
    def test_two_streams_on_one_connection_at_the_worker(self) -> None:
        stream = ("LOCAL_HELLO", "ACCEPT", "TERMINAL", "DONE")
        expected = ("FREE", "IDLE")
        assert after(WCH_WORKER_CONNECTION, "PREFACE_GOOD", *stream, *stream) == expected

    def test_two_streams_on_one_connection_at_the_router(self) -> None:
        stream = ("HELLO_KNOWN", "RESPONSE", "TERMINAL")
        expected = ("CONFIRM", "IDLE")
        assert after(WCH_ROUTER_CONNECTION, "PREFACE_GOOD", *stream, *stream) == expected

    def test_only_a_terminal_makes_a_success(self) -> None:
        """P0-019."""
        good = {r.input for r in WCH_ROUTER_STREAM.rows if r.effect == "SUCCEED"}
        assert good == {"SUCCESS"}

    def test_a_killed_stream_never_succeeds(self) -> None:
        for state in ("KILLED", "KILLED_RESPONDING"):
            assert row(WCH_ROUTER_STREAM, state, "SUCCESS").effect == "FAILED"

    def test_nothing_is_tried_again_behind_the_accept(self) -> None:
        """P0-005, P0-006."""
        again = {r.state for r in WCH_WORKER_STREAM.rows if r.effect == "AGAIN"}
        assert again == {"QUEUED", "GREETING"}
        broken = {r.state for r in WCH_WORKER_CONNECTION.rows if r.effect == "BREAK"}
        assert broken == {"HELLO_SENT"}

    def test_every_wait_at_the_router_has_an_end(self) -> None:
        """P0-019: whatever the worker does, some clock or loss completes the stream."""
        ends = {
            "POSTED": "UNCLEAR",
            "REGISTERED": "EXPIRED",
            "ACCEPTED": "LOST_LATE",
            "RESPONDING": "LOST",
            "KILLED": "UNANSWERED",
            "KILLED_RESPONDING": "UNANSWERED",
            "CANCELLED": "EXPIRED",
        }
        assert {"UNSENT", "VOID", *ends} == set(WCH_ROUTER_STREAM.states)
        for state, input_ in ends.items():
            assert row(WCH_ROUTER_STREAM, state, input_).next == "VOID"

    def test_a_hello_may_overtake_the_answer(self) -> None:
        """P0-018."""
        early = ("POSTED", "HELLO", "ADMITTED", "RESPONSE", "SUCCESS")
        assert after(WCH_ROUTER_STREAM, *early) == ("SUCCEED", "VOID")
        late = ("POSTED", "ADMITTED", "HELLO", "RESPONSE", "SUCCESS")
        assert after(WCH_ROUTER_STREAM, *late) == ("SUCCEED", "VOID")

    def test_classes_with_and_without_a_response(self) -> None:
        accepted = ("POSTED", "ADMITTED", "HELLO")
        assert after(WCH_ROUTER_STREAM, *accepted, "LOST") == ("EXPECT", "REGISTERED")
        assert after(WCH_ROUTER_STREAM, *accepted, "LOST", "HELLO") == ("BIND", "ACCEPTED")
        assert after(WCH_ROUTER_STREAM, *accepted, "LOST", "EXPIRED") == ("AMBIGUOUS", "VOID")
        assert after(WCH_ROUTER_STREAM, *accepted, "RESPONSE", "LOST") == ("PARTIAL", "VOID")


class TestHttp:
    def test_only_done_and_a_clean_end_make_a_success(self) -> None:
        """P1-020."""
        good = {(r.state, r.input) for r in HTTP_STREAM.rows if r.effect == "SUCCEED"}
        assert good == {("ENDING", "END")}
        into = {(r.state, r.input) for r in HTTP_STREAM.rows if r.next == "ENDING" != r.state}
        assert into == {("HEADED", "DONE"), ("ITEMS", "DONE")}

    def test_a_whole_response(self) -> None:
        run = ("POSTED", "STARTED", "ITEM", "ITEM", "DONE", "END")
        assert after(HTTP_STREAM, *run) == ("SUCCEED", "OVER")

    @pytest.mark.parametrize("ending", ["END", "CUT", "FAULT", "SILENT"])
    def test_without_a_terminal_event(self, ending: str) -> None:
        assert after(HTTP_STREAM, "POSTED", "STARTED", ending)[0] == "AMBIGUOUS"
        assert after(HTTP_STREAM, "POSTED", "STARTED", "ITEM", ending)[0] == "PARTIAL"
