"""The checks on the data: silent on ours, and one line for each thing that is made wrong."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
from muxwire_spec import generated, requirements, soundness
from muxwire_spec import model as ir
from muxwire_spec.machines.build import breach, go, machine, stay
from muxwire_spec.recovery import CLASSES, FACTS, classify
from muxwire_spec.spec import load_spec

SPEC = load_spec()
TEXTS = {found.id: found.text for found in requirements.load().values()}


def problems(**changes: Any) -> list[str]:
    return soundness.problems(dataclasses.replace(SPEC, **changes), TEXTS)


def with_machine(name: str, **changes: Any) -> list[str]:
    return problems(
        machines=tuple(
            dataclasses.replace(found, **changes) if found.name == name else found
            for found in SPEC.machines
        )
    )


def with_row(name: str, state: str, input_: str, **changes: Any) -> list[str]:
    (found,) = [m for m in SPEC.machines if m.name == name]
    rows = tuple(
        dataclasses.replace(row, **changes) if (row.state, row.input) == (state, input_) else row
        for row in found.rows
    )
    assert rows != found.rows
    return with_machine(name, rows=rows)


def small(*inputs: Any, states: tuple[str, ...] = ("A", "B")) -> list[str]:
    return list(soundness.machine_problems(SPEC, machine("TOY", "A toy", states, inputs)))


def test_ours_is_sound() -> None:
    assert problems() == []


def test_a_small_machine_is_sound() -> None:
    assert small(("GO", "go", (go("IGNORE", "B"), stay("IGNORE")))) == []


class TestMachines:
    def test_a_missing_row_is_named(self) -> None:
        (found,) = [m for m in SPEC.machines if m.name == "WORKER_CONNECTION"]
        rows = tuple(row for row in found.rows if (row.state, row.input) != ("DRAINING", "EOF"))
        assert with_machine("WORKER_CONNECTION", rows=rows) == [
            "WORKER_CONNECTION[DRAINING, EOF]: 0 rows"
        ]

    def test_a_row_that_is_there_twice(self) -> None:
        (found,) = [m for m in SPEC.machines if m.name == "HEARTBEAT_IN"]
        assert with_machine("HEARTBEAT_IN", rows=(*found.rows, found.rows[0])) == [
            "HEARTBEAT_IN[DEAF, OCTET]: 2 rows"
        ]

    def test_a_row_for_no_cell(self) -> None:
        (found,) = [m for m in SPEC.machines if m.name == "HEARTBEAT_IN"]
        stray = dataclasses.replace(found.rows[0], input="NOISE")
        assert with_machine("HEARTBEAT_IN", rows=(*found.rows, stray)) == [
            "HEARTBEAT_IN[DEAF, NOISE]: no such cell"
        ]

    @pytest.mark.parametrize(
        ("changes", "problem"),
        [
            ({"next": "LIMBO"}, "there is no state LIMBO"),
            ({"effect": "PANIC"}, "PANIC is not in the list of effects"),
            ({"effect": "VIOLATION"}, "a violation has an error, and nothing else has"),
            (
                {"effect": "NONE", "next": "OPEN", "requirement": ""},
                "what cannot happen leads nowhere and has no rule",
            ),
            ({"requirement": "CLS-999"}, "CLS-999 does not exist"),
        ],
    )
    def test_a_bad_row_is_named(self, changes: dict[str, Any], problem: str) -> None:
        found = with_row("WORKER_CONNECTION", "DRAINING", "CUT_OFF", **changes)
        assert f"WORKER_CONNECTION[DRAINING, CUT_OFF]: {problem}" in found

    def test_a_state_that_is_never_reached(self) -> None:
        assert small(("GO", "go", (stay("IGNORE"), stay("IGNORE")))) == [
            "TOY[B]: cannot be reached from A"
        ]

    def test_an_input_that_never_happens(self) -> None:
        assert small(
            ("GO", "go", (go("IGNORE", "B"), stay("IGNORE"))),
            ("NEVER", "never", (stay("NONE"), stay("NONE"))),
        ) == ["TOY[*, NEVER]: the input never happens"]

    @pytest.mark.parametrize(
        ("found", "problem"),
        [
            (breach("CANCELLED", "STM-001"), "CANCELLED is no code of a connection"),
            (breach("NO_ERROR", "STM-001"), "NO_ERROR is no code of a connection"),
            (
                dataclasses.replace(breach("PROTOCOL_ERROR", "STM-001"), scope=ir.Scope.STREAM),
                "a violation ends the connection",
            ),
        ],
    )
    def test_a_violation_ends_the_connection(self, found: ir.Breach, problem: str) -> None:
        line = ("GO", "go", (go("IGNORE", "B"), found))
        assert small(line) == [f"TOY[B, GO]: {problem}"]

    def test_names(self) -> None:
        line = ("Go", "go", (go("IGNORE", "B"), stay("IGNORE")))
        assert small(line, line)[:2] == ["TOY: Go is listed 2 times", "TOY: Go is no name"]

    def test_a_name_with_two_values(self) -> None:
        assert (
            "CLIENT_CONNECTION: IN_WORKER_CONNECTION_EOF has another value in WORKER_CONNECTION"
            in with_machine("CLIENT_CONNECTION", prefix="WORKER_CONNECTION_")
        )

    def test_an_effect_that_is_not_used(self) -> None:
        assert problems(effects=(*SPEC.effects, ("DREAM", ""))) == [
            "effects: DREAM is not used",
            "effects: DREAM is not described",
        ]


class TestRecovery:
    @pytest.mark.parametrize(
        ("state", "input_", "effect", "expected"),
        [
            ("SENT", "LOST", "NOT_PROCESSED", "AMBIGUOUS"),
            ("RESPONDING", "LOST", "AMBIGUOUS", "PARTIAL"),
            ("KILLED", "ERROR_NOT_PROCESSED", "NOT_PROCESSED", "FAILED"),
            ("WAITING", "LOST", "AMBIGUOUS", "NOT_SENT"),
            ("SENT", "REFUSED", "AMBIGUOUS", "NOT_PROCESSED"),
        ],
    )
    def test_another_class_is_named(
        self, state: str, input_: str, effect: str, expected: str
    ) -> None:
        assert with_row("RECOVERY", state, input_, effect=effect)[0] == (
            f"RECOVERY[{state}, {input_}]: gives {effect}, the table of classes gives {expected}"
        )

    @pytest.mark.parametrize(
        ("state", "input_", "effect", "expected"),
        [
            ("UNSENT", "UNCLEAR", "AMBIGUOUS", "NOT_SENT"),
            ("POSTED", "UNCLEAR", "NOT_SENT", "AMBIGUOUS"),
            ("POSTED", "REFUSED", "AMBIGUOUS", "NOT_PROCESSED"),
            ("RESPONDING", "LOST", "AMBIGUOUS", "PARTIAL"),
            ("KILLED", "SUCCESS", "AMBIGUOUS", "FAILED"),
        ],
    )
    def test_another_class_of_a_stream_is_named(
        self, state: str, input_: str, effect: str, expected: str
    ) -> None:
        where = f"WCH_ROUTER_STREAM[{state}, {input_}]"
        assert with_row("WCH_ROUTER_STREAM", state, input_, effect=effect)[0] == (
            f"{where}: gives {effect}, the table of classes gives {expected}"
        )

    def test_a_terminal_that_is_a_violation_would_be_one_no_more(self) -> None:
        """The hole that ADM-003 and section 16.1 close together."""
        found = with_row(
            "RECOVERY",
            "RESPONDING",
            "ERROR_NOT_PROCESSED",
            effect="PARTIAL",
            breach=None,
            next="RULING",
        )
        assert found[0].endswith("gives PARTIAL, the table of classes gives NOT_PROCESSED")

    def test_a_class_that_no_cell_gives(self) -> None:
        extra = dataclasses.replace(CLASSES[0], name="LOST", when=(("sent", "!sent"),), rank=5)
        assert problems(classes=(*CLASSES, extra)) == [
            "RECOVERY: no cell gives LOST",
            "WCH_ROUTER_STREAM: no cell gives LOST",
            "HTTP_STREAM: no cell gives LOST",
        ]

    def test_facts_codes_and_ranks(self) -> None:
        retry = dataclasses.replace(CLASSES[0].retry, never=("NOTHING",))
        changed = dataclasses.replace(CLASSES[0], when=(("!told",),), rank=4, retry=retry)
        assert problems(classes=(changed, *CLASSES[1:]))[:3] == [
            "classes: NOT_SENT: !told is no fact",
            "classes: NOT_SENT: NOTHING is no code",
            "classes: the ranks are no order",
        ]

    def test_every_set_of_facts_has_one_class(self) -> None:
        names = [name for name, _ in FACTS]
        for count in range(len(names) + 1):
            for facts in itertools.combinations(names, count):
                found = classify(set(facts))
                assert (found == "NOT_SENT") == ("sent" not in facts)
                if {"error", "sent"} <= set(facts):
                    assert found == "FAILED"
                if found == "AMBIGUOUS":
                    assert not {"responded", "rejected", "uncovered", "refused"} & set(facts) or (
                        "success" in facts
                    )

    def test_the_order_of_several_attempts(self) -> None:
        """REC-002."""
        assert [found.name for found in sorted(CLASSES, key=lambda found: found.rank)] == [
            "NOT_SENT",
            "NOT_PROCESSED",
            "AMBIGUOUS",
            "FAILED",
            "PARTIAL",
        ]


class TestErrors:
    def without(self, requirement: str) -> list[str]:
        return problems(errors=tuple(r for r in SPEC.errors if r.requirement != requirement))

    def test_a_missing_rule_is_named_by_all_that_need_it(self) -> None:
        found = self.without("HSK-006")
        assert (
            "WORKER_HANDSHAKE[ACK, SETTINGS]: PROTOCOL_ERROR (HSK-006) is not in the error table"
            in found
        )
        assert "HSK-006: connection error PROTOCOL_ERROR is not in the error table" in found

    def test_a_check_of_a_frame_needs_its_rule(self) -> None:
        found = self.without("FRM-003")
        assert found[0] == "check length: FRAME_SIZE_ERROR (FRM-003) is not in the error table"

    def test_a_layout_needs_its_rule(self) -> None:
        assert "OPEN: PROTOCOL_ERROR (PAY-002) is not in the error table" in self.without("PAY-002")

    def test_another_code_is_named(self) -> None:
        changed = tuple(
            dataclasses.replace(r, code="INTERNAL_ERROR") if r.requirement == "SET-001" else r
            for r in SPEC.errors
        )
        assert problems(errors=changed) == [
            "SET-001: connection error SETTINGS_ERROR is not in the error table",
            "error table, SET-001 value out of range: nothing else says INTERNAL_ERROR",
        ]

    @pytest.mark.parametrize(
        ("changes", "problem"),
        [
            ({"code": "OVERLOADED"}, "OVERLOADED is no code of a connection"),
            ({"code": None}, "a GOAWAY needs a code, and a code a GOAWAY"),
            ({"ends": (ir.Ending(kind="BANG", when=""),)}, "BANG is no ending"),
        ],
    )
    def test_a_bad_rule_is_named(self, changes: dict[str, Any], problem: str) -> None:
        first = next(r for r in SPEC.errors if r.requirement == "FRM-002")
        others = tuple(r for r in SPEC.errors if r is not first)
        found = problems(errors=(dataclasses.replace(first, **changes), *others))
        assert f"error table, FRM-002 marker: {problem}" in found

    def test_an_ending_that_is_not_used(self) -> None:
        extra = (*SPEC.endings, ("BANG", "a noise"))
        assert problems(endings=extra) == ["endings: BANG is not used"]


def test_check_reports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    unsound = dataclasses.replace(SPEC, effects=(*SPEC.effects, ("DREAM", "a dream")))
    monkeypatch.setattr(generated, "load_spec", lambda: unsound)
    assert generated.check() == ["spec/muxwire_spec: effects: DREAM is not used"]
