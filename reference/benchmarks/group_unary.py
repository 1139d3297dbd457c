"""Unary: a 64-octet echo on one connection."""

from __future__ import annotations

import statistics
from contextlib import ExitStack

from results import Floor, Group, Target, known, paired, spread
from session import Session, rotated, start_all

MUXWIRE, MUX, ECHO = "muxwire", "raw mux (ceiling)", "raw echo"
AIOHTTP, GRPC, NATS = "aiohttp keep-alive", "grpc.aio", "nats-py"
SYSTEMS = {
    MUXWIRE: "muxwire",
    MUX: "raw",
    ECHO: "raw",
    AIOHTTP: "aiohttp",
    GRPC: "grpc",
    NATS: "nats",
}
IN_FLIGHT = (1, 64, 256, 1_024)
FLOOR_IN_FLIGHT, FLOOR_RATE = 100, 10_000


def measure(session: Session) -> Group:
    """Measure the group."""
    group = Group("unary", "Unary: 64-octet echo on one connection, requests/s")
    group.columns = {str(number): f"{number:,} in flight" for number in IN_FLIGHT}
    group.columns |= {"p50": "p50 us, 1 in flight", "cpu": "CPU us/request, 256"}
    errors = 0
    with ExitStack() as stack:
        drivers = start_all(stack, session, group, SYSTEMS)
        for run in session.runs(group):
            for number in (*IN_FLIGHT, FLOOR_IN_FLIGHT):
                for row in rotated(list(drivers), run):
                    if (row == ECHO and number != 1) or (
                        number == FLOOR_IN_FLIGHT and row != MUXWIRE
                    ):
                        continue
                    answer = session.ask(
                        group,
                        row,
                        drivers[row],
                        "bare" if row == ECHO else "unary",
                        session.window + session.warmup,
                        in_flight=number,
                        seconds=session.window,
                        warmup=session.warmup,
                    )
                    group.add(row, str(number), answer and answer["rate"])
                    if number == 1:
                        group.add(row, "p50", answer and answer["p50_us"])
                    if number == 256:
                        group.add(row, "cpu", answer and answer["cpu_us"])
                    if row == MUXWIRE:
                        errors += answer["errors"] if answer else 1
    _compare(group)
    rate = group.get(MUXWIRE, str(FLOOR_IN_FLIGHT))
    group.floors = [
        Floor(
            label=f"muxwire, {FLOOR_IN_FLIGHT} in flight, more than {FLOOR_RATE:,} requests/s",
            holds=bool(known(rate)) and statistics.median(known(rate)) > FLOOR_RATE,
            found=f"{spread(rate)}, the median counts",
        ),
        Floor(label="muxwire, no errors", holds=errors == 0, found=f"{errors} errors"),
    ]
    group.notes += [
        "muxwire: full protocol, every request with a deadline. CPU: client and server together.",
        "aiohttp has one connection for each request in flight, since HTTP/1.1 needs it; "
        "nats-py goes through nats-server.",
    ]
    return group


def _compare(group: Group) -> None:
    mine = group.get(MUXWIRE, "256")
    for row, least, moonshot in (
        (GRPC, 20, 40),
        (AIOHTTP, 8, 20),
        (NATS, 2.5, 6),
        (MUX, 0.12, 0.30),
    ):
        group.targets.append(
            Target(
                label=f"256 in flight, muxwire / {row}",
                values=paired(mine, group.get(row, "256")),
                least=least,
                moonshot=moonshot,
                missing=group.why_not(MUXWIRE, row),
            )
        )
    group.targets.append(
        Target(
            label="p50 with 1 in flight, muxwire / raw echo",
            values=paired(group.get(MUXWIRE, "p50"), group.get(ECHO, "p50")),
            least=1.5,
            moonshot=1.2,
            falling=True,
            missing=group.why_not(MUXWIRE, ECHO),
        )
    )
