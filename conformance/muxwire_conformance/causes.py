"""The likely cause of a failure, guessed from what was expected and what came.

Rules of this file:

* A cause is a row of a table: a pattern for what was expected, one for what came, one sentence.
  The first row that fits is taken.
* A guess says what an implementer should look at. Where nothing fits, nothing is said.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from muxwire_conformance.verdict import Result, Verdict

_UNTRIED = (Verdict.PASS, Verdict.NOT_APPLICABLE, Verdict.INCONCLUSIVE, Verdict.ERROR)
_ERROR = r"GOAWAY|ERROR"


class _Row(NamedTuple):
    expected: str
    actual: str
    cause: str


_ROWS = (
    _Row(
        "",
        r"reset \(RST\)",
        "the target closed its socket with input unread, so the system sent RST and may have"
        " dropped what was written before it: half-close, read to the end, then close (CLS-002)",
    ),
    _Row(
        "still serves new connections",
        "",
        "the target crashed, was restarted, or no longer accepts connections",
    ),
    _Row(
        _ERROR,
        r"closed \(FIN\)",
        "the target gives the connection up without saying why: the error is not sent, or the"
        " socket is closed before it is written",
    ),
    _Row(
        _ERROR,
        r"^(nothing more|no answer)",
        "the target did not notice the violation, or waits for octets that never come",
    ),
    _Row(
        "GOAWAY",
        "^GOAWAY",
        "the violation is noticed, but not by this rule: another check comes first, or the error"
        " has another code",
    ),
    _Row(
        _ERROR,
        r"^(PONG|RESPONSE|SETTINGS_ACK|the connection)",
        "the rule is not checked: the target took the violation for something legal",
    ),
    _Row("", "^GOAWAY", "the target takes something legal for an error; its GOAWAY names what"),
    _Row("", r"closed \(FIN\)", "the target ends the connection where it has to go on"),
    _Row("", "^nothing more", "the target does not act on what was sent, or waits for more"),
)


def likely_cause(result: Result) -> str:
    """Return one sentence part, "" if the result breaks no rule or nothing fits."""
    if result.verdict in _UNTRIED or not (result.expected or result.actual):
        return ""
    for row in _ROWS:
        if re.search(row.expected, result.expected) and re.search(row.actual, result.actual):
            return row.cause
    return ""
