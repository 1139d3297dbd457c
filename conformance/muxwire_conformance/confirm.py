"""Decide what a failure is worth once the case was run again, alone.

Rules of this file:

* A failure stays a FAIL when every further run that decided anything failed too, and when no
  further run was possible: doubt is never in favour of the target.
* One that did not come again is FLAKY, which is red too.
* Failed beside other cases and never alone is FAIL-UNDER-LOAD, and the reason says so.
"""

from __future__ import annotations

from collections.abc import Sequence

from muxwire_conformance.verdict import Result, Verdict

LEAST_TIME = 5.0
"""Seconds that confirming may always take; beyond them it takes no longer than the run itself."""

_HELD = (Verdict.PASS, Verdict.WARN)


def settle(first: Result, again: Sequence[Result], *, alone: bool) -> Result:
    """Return the first result with its verdict confirmed, or as FLAKY.

    Args:
        first: A result with the verdict FAIL.
        again: What the further runs came to, each alone.
        alone: Whether the first run had been alone too.
    """
    first.attempts = [first.verdict, *(result.verdict for result in again)]
    broken = next((result for result in again if result.verdict is Verdict.ERROR), None)
    if broken is not None:
        broken.attempts = first.attempts
        return broken
    failed = sum(result.verdict is Verdict.FAIL for result in again)
    held = sum(result.verdict in _HELD for result in again)
    if held:
        first.verdict = Verdict.FLAKY
        first.reason = f"failed {failed + 1} of {failed + held + 1} times: {first.reason}"
        if not failed and not alone:
            first.reason = f"FAIL-UNDER-LOAD, held {held} of {held} times alone; {first.reason}"
    elif failed:
        first.reason += f" (failed again {failed} of {failed} times alone)"
    return first
