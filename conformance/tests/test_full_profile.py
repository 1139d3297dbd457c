"""The full profile: the same octets arrive in other pieces, and a receiver that cares is caught."""

from __future__ import annotations

import model_connection
import pytest
from muxwire_conformance import wire
from muxwire_conformance.case import load_cases
from muxwire_conformance.explain import rerun_command
from muxwire_conformance.full_profile import Delivery, _cuts, variants
from muxwire_conformance.verdict import Verdict
from test_session import run

BASE = "FRM-004/type-05"
KINDS = ("split", "coalesced", "dribbled")


def test_every_decoder_case_has_each_variant() -> None:
    found = {one.id for one in variants(load_cases().values())}
    assert {f"{BASE}+{kind}" for kind in KINDS} <= found
    assert len(found) > 600
    assert len(found) % len(KINDS) == 0
    assert {id[:3] for id in found} == {"FRM", "TYP", "PAY", "SET"}
    assert not list(variants(load_cases("client").values()))


def test_pieces() -> None:
    assert Delivery("split", 2).pieces(b"abc", b"") == [b"ab", b"c"]
    assert Delivery("split", 9).pieces(b"abc", b"") == [b"abc"]
    assert Delivery("coalesced").pieces(b"abc", b"L") == [b"Labc"]
    assert Delivery("dribbled").pieces(b"abc", b"") == [b"a", b"b", b"c"]
    long = Delivery("dribbled").pieces(bytes(1_000), b"")
    assert (len(long), len(long[-1])) == (97, 904)


@pytest.mark.parametrize(
    ("length", "cuts"),
    [
        (0, []),
        (2, []),
        (5, [2, 3, 4]),
        (66, list(range(2, 66))),
        (1_000, [*range(2, 65), *range(992, 1_000)]),
    ],
)
def test_cuts(length: int, cuts: list[int]) -> None:
    assert list(_cuts(length)) == cuts


def judge(*kinds: str, flaws: tuple[str, ...] = ()) -> dict[str, Verdict]:
    """Return the verdicts of the case and of its variants, by kind; the case's own is ""."""
    library = load_cases()
    chosen = [one for one in variants([library[BASE]]) if one.id.rpartition("+")[2] in kinds]
    results = run(library[BASE], *chosen, flaws=flaws)[0]
    return {id.partition("+")[2]: one.verdict for id, one in results.items() if BASE in id}


def test_a_receiver_that_does_not_care_passes() -> None:
    assert set(judge(*KINDS).values()) == {Verdict.PASS}


def test_a_receiver_that_needs_whole_frames_is_caught() -> None:
    verdicts = judge("split", "dribbled", flaws=("frm-loses-split-header",))
    assert verdicts[""] is Verdict.PASS
    assert Verdict.PASS not in (verdicts["split"], verdicts["dribbled"])


def test_a_receiver_that_takes_one_frame_of_each_read_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = model_connection.Connection.data_received

    def one_frame(self: model_connection.Connection, data: bytes) -> None:
        at = data.find(wire.ping()[:16])
        real(self, data[: at + 40] if at >= 0 else data)

    monkeypatch.setattr(model_connection.Connection, "data_received", one_frame)
    verdicts = judge("coalesced")
    assert verdicts[""] is Verdict.PASS
    assert verdicts["coalesced"] is not Verdict.PASS


def test_the_command_to_run_a_variant_again() -> None:
    words = rerun_command(f"{BASE}+split", target="h:1", seed=7)
    assert "--profile full" in words
    assert "--profile" not in rerun_command(BASE, target="h:1", seed=7)
