"""Connections: a thousand of them, held and used."""

from __future__ import annotations

from contextlib import ExitStack

from children import Child, ChildError
from load import raise_file_limit
from results import Floor, Group, Target, known, paired
from session import GRACE, Session, start

CONNECTIONS, EACH = 1_000, 10
SINGLE = 256
MANY, ONE = f"{CONNECTIONS:,} connections x {EACH} in flight", f"1 connection x {SINGLE} in flight"
FILES = CONNECTIONS + 100


def measure(session: Session) -> Group:
    """Measure the group."""
    group = Group("connections", "Connections: 64-octet echo over many connections, requests/s")
    group.columns = {"rate": "requests/s", "cpu": "CPU us/request"}
    group.rows = [ONE, MANY]
    files = raise_file_limit()
    if files < FILES:
        reason = f"not measured: only {files} open files are allowed, {FILES} are needed"
        group.reasons = {ONE: reason, MANY: reason}
        found = reason
    else:
        found = _held(session, group)
        _throughput(session, group)
    holds = found.startswith(f"{CONNECTIONS:,} held")
    group.floors.append(
        Floor(label=f"{CONNECTIONS:,} connections held with heartbeats", holds=holds, found=found)
    )
    group.targets.append(
        Target(
            label=f"loss of {CONNECTIONS:,} x {EACH} against 1 x {SINGLE}",
            values=paired(
                group.get(MANY, "rate"),
                group.get(ONE, "rate"),
                lambda many, one: 100 * (1 - many / one),
            ),
            least=40,
            moonshot=15,
            unit="%",
            falling=True,
            missing=group.why_not(ONE, MANY),
        )
    )
    return group


def _held(session: Session, group: Group) -> str:
    """Hold the connections without a request for two idle timeouts, and say what became of them."""
    idle = 1.5 if session.quick else 3.0
    hold = 2 * idle
    settings = {"idle_timeout_ms": round(1000 * idle)}
    session.say(f"{group.name}: holding {CONNECTIONS:,} connections for {hold:g} s")
    try:
        with ExitStack() as stack:
            _, driver = start(
                stack,
                "muxwire",
                serve={"settings": settings},
                drive={"settings": settings, "connections": 1},
            )
            driver.ask("dial", 20 + GRACE, count=CONNECTIONS - 1)
            answer = driver.ask("hold", hold + GRACE, seconds=hold)
    except ChildError as error:
        return f"failed: {error}"
    group.raw.append({"row": "held", **answer})
    alive = min(answer["held"], answer["accepting"])
    text = (
        f"{alive:,} held for {hold:g} s without a request at an idle timeout of {idle:g} s; "
        f"{answer['pinged']:,} of them had a PING answered"
    )
    if alive < CONNECTIONS:
        return f"only {text}; first error: {answer['example'] or 'none'}"
    return text


def _throughput(session: Session, group: Group) -> None:
    with ExitStack() as stack:
        drivers: dict[str, Child] = {}
        for row, connections in ((ONE, 1), (MANY, CONNECTIONS)):
            session.say(f"{group.name}: opening {row}")
            try:
                _, driver = start(stack, "muxwire", drive={"connections": 1})
                driver.ask("dial", 20 + GRACE, count=connections - 1)
            except ChildError as error:
                group.reasons[row] = f"failed: {error}"
                return
            drivers[row] = driver
        for run in session.runs(group):
            order = [(ONE, 1, SINGLE), (MANY, CONNECTIONS, EACH)]
            for row, connections, in_flight in order if run % 2 else order[::-1]:
                window = (
                    session.window if row == ONE else session.window * (2.5 if session.quick else 4)
                )
                answer = session.ask(
                    group,
                    row,
                    drivers[row],
                    "unary",
                    window + 5,
                    connections=connections,
                    in_flight=in_flight,
                    seconds=window,
                    warmup=session.warmup,
                )
                group.add(row, "rate", answer and answer["rate"])
                group.add(row, "cpu", answer and answer["cpu_us"])
    if not known(group.get(MANY, "rate")):
        group.reasons.setdefault(MANY, "failed: no figure")
