"""Results of every kind, with hostile text in them, for the tests of the reports."""

from __future__ import annotations

from muxwire_conformance import wire
from muxwire_conformance.session import Summary
from muxwire_conformance.transcript import Transcript
from muxwire_conformance.verdict import Check, Result, Verdict, Violation

HEAD = {
    "target": "127.0.0.1:1",
    "role": "worker",
    "seed": 7,
    "suite_version": "0",
    "spec_version": "1",
    "started": "2026-01-02T03:04:05Z",
    "info": {"name": "\x00x`y", "version": "1.2"},
}
NASTY = "control \x00\x1b[31m \x0b \ufffe \ud800 <&>\"' ]]>"


def transcript() -> Transcript:
    made = Transcript(label="connection 1", started=10.0)
    made.sent(wire.preface() + wire.settings([("MAX_FRAME_SIZE", 65_536)]), 10.001)
    made.sent(wire.ping(marker=0xF6), 10.002, marked=True, note="on purpose")
    (frame,) = wire.Parser(with_preface=False).feed(wire.goaway("NO_ERROR"), 10.003)
    made.received(frame)
    made.sent(b"\x16\x03\x01" + bytes(9), 10.004)
    made.event("connection closed (FIN) after 50 bytes", 10.005)
    return made


def result(verdict: Verdict, name: str = "FRM-002/bad-marker", **changes: object) -> Result:
    values: dict[str, object] = {
        "id": name,
        "title": "A wrong marker is an error.",
        "requirement": name[:7],
        "level": "MUST",
        "verdict": verdict,
        "seconds": 0.25,
        "checks": [Check(name="goaway", held=True, warning=True, expected="a", actual=NASTY)],
    }
    if verdict is not Verdict.PASS:
        values |= {
            "reason": f"check 'goaway' does not hold {NASTY}",
            "expected": "GOAWAY",
            "actual": NASTY,
            "transcripts": [transcript()],
            "violations": [Violation(requirement="FRM-007", text=NASTY)],
        }
    return Result(**{**values, **changes})  # type: ignore[arg-type]


ALL = [result(verdict, f"FRM-00{n}/x") for n, verdict in enumerate(Verdict, 1)]
ALL.append(result(Verdict.PASS, "HSK-003/y"))
COUNTS = Summary(selected=7, ran=6, passed=2, failed=1, seconds=1.5)
