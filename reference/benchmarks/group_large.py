"""Large: an echo of 1 MiB."""

from __future__ import annotations

from contextlib import ExitStack

from results import Group, Target, paired
from session import Session, rotated, start_all

MUXWIRE, ECHO = "muxwire", "raw echo (ceiling)"
SYSTEMS = {MUXWIRE: "muxwire", ECHO: "raw"}
SIZE = 2**20
IN_FLIGHT = (1, 8)


def measure(session: Session) -> Group:
    """Measure the group."""
    group = Group("large", "Large: echo of 1 MiB on one connection, MB/s there and back")
    group.columns = {str(number): f"{number} in flight" for number in IN_FLIGHT}
    group.columns["cpu"] = "CPU ms/echo, 1 in flight"
    window = session.window
    with ExitStack() as stack:
        drivers = start_all(stack, session, group, SYSTEMS)
        for run in session.runs(group):
            for number in IN_FLIGHT:
                for row in rotated(list(drivers), run):
                    answer = session.ask(
                        group,
                        row,
                        drivers[row],
                        "large",
                        window + 2,
                        size=SIZE,
                        in_flight=number,
                        seconds=window,
                    )
                    group.add(row, str(number), answer and answer["rate"] / 1e6)
                    if number == 1:
                        cost = answer and answer["cpu_us"]
                        group.add(row, "cpu", cost and cost * SIZE / 1e3)
    group.targets.append(
        Target(
            label="1 in flight, muxwire / raw echo",
            values=paired(group.get(MUXWIRE, "1"), group.get(ECHO, "1")),
            least=0.5,
            moonshot=0.8,
            missing=group.why_not(MUXWIRE, ECHO),
        )
    )
    return group
