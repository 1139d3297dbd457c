"""Stream: one response of 10,000 items of 32 octets."""

from __future__ import annotations

from contextlib import ExitStack

from results import Group, Target, paired
from session import Session, rotated, start_all

MUXWIRE, MUX, AIOHTTP, GRPC = "muxwire", "raw batches (ceiling)", "aiohttp SSE", "grpc.aio stream"
SYSTEMS = {MUXWIRE: "muxwire", MUX: "raw", AIOHTTP: "aiohttp", GRPC: "grpc"}
COUNT = 10_000
MODES = {"fast": False, "paced": True}


def measure(session: Session) -> Group:
    """Measure the group."""
    group = Group("stream", "Stream: one response of 10,000 items of 32 octets, items/s")
    group.columns = {
        "fast": "as fast as it goes",
        "paced": "one loop turn per item",
        "cpu fast": "CPU us/item, fast",
        "cpu paced": "CPU us/item, paced",
    }
    window = session.window / 2 if session.quick else session.window
    with ExitStack() as stack:
        drivers = start_all(stack, session, group, SYSTEMS)
        for run in session.runs(group):
            for mode, paced in MODES.items():
                for row in rotated(list(drivers), run):
                    answer = session.ask(
                        group,
                        row,
                        drivers[row],
                        "stream",
                        window + 5,
                        count=COUNT,
                        paced=paced,
                        seconds=window,
                    )
                    group.add(row, mode, answer and answer["rate"])
                    group.add(row, f"cpu {mode}", answer and answer["cpu_us"])
    for row, least, moonshot in ((GRPC, 30, 80), (AIOHTTP, 3, 6)):
        group.targets.append(
            Target(
                label=f"as fast as it goes, muxwire / {row}",
                values=paired(group.get(MUXWIRE, "fast"), group.get(row, "fast")),
                least=least,
                moonshot=moonshot,
                missing=group.why_not(MUXWIRE, row),
            )
        )
    group.notes.append(
        "A message of muxwire and of grpc.aio, an event of aiohttp; every item is compared."
    )
    return group
