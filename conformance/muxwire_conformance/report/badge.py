"""The badge: JSON for an endpoint of shields.io, with counts instead of a percentage."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from muxwire_conformance.report.collect import CollectedReport, Run
from muxwire_conformance.verdict import RED, Verdict

LABEL = "WMX/1 conformance"


class BadgeReport(CollectedReport):
    """Write ``{"message": "809 passed, 2 failed", ...}``; all targets count together."""

    def render(self, runs: Sequence[Run]) -> str:
        """Return the document."""
        counts: Counter[Verdict] = Counter()
        for run in runs:
            counts += run.counts()
        bad = sum(counts[verdict] for verdict in RED | {Verdict.ERROR})
        over = all(run.summary is not None and not run.summary.interrupted for run in runs)
        whole = over and counts[Verdict.PASS] > 0
        parts = [f"{counts[Verdict.PASS]} passed"]
        parts += [f"{bad} failed"] if bad else []
        if counts[Verdict.XFAIL]:
            parts.append(f"{counts[Verdict.XFAIL]} known failures")
        if not whole:
            parts.append("incomplete")
        colour = "red" if bad else "brightgreen" if whole else "lightgrey"
        if colour == "brightgreen" and (counts[Verdict.XFAIL] or counts[Verdict.WARN]):
            colour = "yellow"
        document = {
            "schemaVersion": 1,
            "label": LABEL,
            "message": ", ".join(parts),
            "color": colour,
        }
        return json.dumps(document) + "\n"
