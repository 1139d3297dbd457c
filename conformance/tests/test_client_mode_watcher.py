"""What the judge sees of a client on every frame, rule by rule."""

from __future__ import annotations

import pytest
from muxwire_conformance import wire
from muxwire_conformance.client_mode.watcher import CLIENT_WATCHED, LinkWatcher
from muxwire_conformance.rules import rule
from muxwire_conformance.wire import Frame, Parser, Preface

ONE, TWO = bytes(range(1, 17)), bytes(range(2, 18))
ID = [("request-id", "x")]
SETTINGS = wire.settings([("IDLE_TIMEOUT_MS", 60_000)])
ACK = wire.settings_ack()


def opened(request_id: bytes = ONE, body: bytes = b"", **options: object) -> bytes:
    options.setdefault("headers", ID)
    return wire.open_request(request_id, "a.b", body, **options)  # type: ignore[arg-type]


def seen(*octets: bytes, announce: bool = True, known: set[bytes] | None = None) -> list[str]:
    """Return the rules that the last of these frames breaks; the others break none."""
    watcher = LinkWatcher(known or set())
    parser = Parser(with_preface=False)
    found: list[str] = []
    for index, raw in enumerate(octets):
        for item in parser.feed(raw, 0.0):
            assert isinstance(item, Frame)
            assert not found, f"{octets[index - 1]!r} breaks {found}"
            found = [fault.requirement for fault in watcher.frame(item)]
        if index == 0 and announce:
            watcher.announced([(wire.SETTING_IDS["MAX_FRAME_SIZE"], 1 << 20)])
    return found


@pytest.mark.parametrize(
    "octets",
    [
        (SETTINGS, ACK, opened(end=False), wire.request(ONE, 1, b"x", end=True), opened(TWO)),
        (SETTINGS, ACK, opened(), wire.stop(ONE), wire.kill(ONE), wire.goaway()),
        (SETTINGS, opened(headers=[*ID, ("attempt", "2")]), wire.grease(), wire.ping()),
        (SETTINGS, ACK, wire.window_update(1 << 40), wire.goaway("PROTOCOL_ERROR")),
    ],
)
def test_what_a_correct_client_sends(octets: tuple[bytes, ...]) -> None:
    assert seen(*octets) == []


@pytest.mark.parametrize(
    ("requirement", "octets"),
    [
        ("HSK-001", (wire.ping(),)),
        ("HSK-006", (SETTINGS, SETTINGS)),
        ("HSK-007", (SETTINGS, ACK, ACK)),
        ("FRM-007", (SETTINGS, wire.ping(flags=0x10))),
        ("FRM-010", (SETTINGS, opened(end=False), wire.request(ONE, 2))),
        ("RID-001", (SETTINGS, opened(), opened())),
        ("STM-002", (SETTINGS, opened(), wire.request(ONE, 1))),
        ("STM-002", (SETTINGS, opened(), wire.kill(ONE), wire.kill(ONE))),
        ("FAI-001", (SETTINGS, wire.kill(ONE))),
        ("FAI-002", (SETTINGS, opened(body=bytes(65_536)))),
        ("CLS-001", (SETTINGS, wire.goaway("PROTOCOL_ERROR", last_ordinal=1))),
        ("CLS-002", (SETTINGS, wire.goaway("PROTOCOL_ERROR"), wire.ping())),
        ("CLS-009", (SETTINGS, wire.goaway(), opened())),
        ("REC-007", (SETTINGS, opened(headers=[]))),
        ("REC-007", (SETTINGS, opened(headers=[*ID, ("attempt", "1")]))),
        ("PAY-005", (SETTINGS, opened(headers=[*ID, ("Key", "")]))),
        ("SET-003", (SETTINGS, wire.open_request(ONE, "a..b", headers=ID))),
        ("FLW-001", (SETTINGS, opened(body=bytes(65_450), end=False), wire.request(ONE, 1, b"x"))),
    ],
)
def test_what_breaks_a_rule(requirement: str, octets: tuple[bytes, ...]) -> None:
    assert requirement in seen(*octets)


def test_before_the_settings_the_assumed_values_hold() -> None:
    assert seen(SETTINGS, opened(body=bytes(16_400)), announce=False) == ["SET-005"]
    opens = [opened(index.to_bytes(16, "big")) for index in range(1, 102)]
    assert "SET-005" in seen(SETTINGS, *opens, announce=False)


def test_an_id_of_another_connection_is_used_again() -> None:
    assert seen(SETTINGS, opened(), known={ONE}) == ["RID-001"]


@pytest.mark.parametrize("changes", [{"ver_lo": 2, "ver_hi": 3}, {"header_size": 48}])
def test_a_preface_that_does_not_offer_version_1(changes: dict[str, int]) -> None:
    (item,) = Parser().feed(wire.preface(**changes), 0.0)  # type: ignore[arg-type]
    assert isinstance(item, Preface)
    assert [fault.requirement for fault in LinkWatcher(set()).preface(item)] == ["HSK-001"]


def test_what_is_watched_is_a_rule() -> None:
    assert all(rule(requirement).known for requirement in CLIENT_WATCHED)
