"""Memory: what connections, open requests and stalled streams cost a worker."""

from __future__ import annotations

from contextlib import ExitStack

from children import Child, ChildError
from results import Group, Target, known
from session import GRACE, Session, start

CONNECTIONS = 1_000
CARRIERS = 4
"""Connections that carry the open requests; one more asks the questions."""
PLACES = 16_384
IDLE, OPEN = "idle connection", "open request"
STALLED = {32: "stalled stream, items of 32 octets", 1_024: "stalled stream, items of 1 KiB"}
STREAMS = 100


def measure(session: Session) -> Group:
    """Measure the group; once, since memory does not vary as time does."""
    group = Group("memory", "Memory: resident bytes, difference divided by number")
    group.corner = "what"
    group.columns = {
        "worker": "worker",
        "client": "client",
        "buffered": "worker, buffered cost",
    }
    few, many = (500, 2_500) if session.quick else (1_000, 10_000)
    for row, work in (
        (IDLE, lambda: _idle(session, group)),
        (OPEN, lambda: _open(session, group, few, many)),
        *((row, lambda size=size, row=row: _stalled(session, group, row, size))
          for size, row in STALLED.items()),
    ):  # fmt: skip
        group.rows.append(row)
        session.say(f"{group.name}: {row}")
        try:
            work()
        except ChildError as error:
            group.reasons[row] = f"failed: {error}"
    for row, least, moonshot in ((IDLE, 40_000, 20_000), (OPEN, 4_000, 2_000)):
        group.targets.append(
            Target(
                label=f"{row}, worker",
                values=known(group.get(row, "worker")),
                least=least,
                moonshot=moonshot,
                unit="bytes",
                falling=True,
                missing=group.why_not(row),
            )
        )
    group.notes.append(
        f"Idle: {CONNECTIONS:,} connections. Open: {few:,} to {many:,} requests that wait, on "
        f"{CARRIERS} connections. Stalled: {STREAMS} streams that nobody reads. "
        "One run; the kernel's socket buffers are not in it."
    )
    return group


def _settled(driver: Child) -> dict[str, int]:
    stats: dict[str, int] = driver.ask("settle", 20 + GRACE, limit=20.0)["stats"]
    return stats


def _note(
    group: Group, row: str, before: dict[str, int], after: dict[str, int], number: int
) -> None:
    for column, key in (
        ("worker", "rss_bytes"),
        ("client", "client_rss_bytes"),
        ("buffered", "buffered_bytes"),
    ):
        group.add(row, column, (after[key] - before[key]) / number)
    group.raw.append({"row": row, "before": before, "after": after, "number": number})


def _idle(session: Session, group: Group) -> None:
    number = CONNECTIONS
    with ExitStack() as stack:
        _, driver = start(stack, "muxwire", drive={"connections": 5})
        before = _settled(driver)
        driver.ask("dial", 20 + GRACE, count=number)
        _note(group, IDLE, before, _settled(driver), number)
        session.say(f"{group.name}: stopping {number} connections")


def _open(session: Session, group: Group, few: int, many: int) -> None:
    del session
    settings = {"max_concurrent_requests": PLACES}
    with ExitStack() as stack:
        _, driver = start(
            stack,
            "muxwire",
            serve={"settings": settings},
            drive={"connections": CARRIERS + 1},
        )
        driver.ask("open", GRACE, subject="hang", count=few)
        before = _settled(driver)
        driver.ask("open", GRACE, subject="hang", count=many - few)
        after = _settled(driver)
        if after["active"] < many:
            raise ChildError(f"{after['active']} of {many} requests are open")
        _note(group, OPEN, before, after, many - few)


def _stalled(session: Session, group: Group, row: str, size: int) -> None:
    del session
    with ExitStack() as stack:
        _, driver = start(stack, "muxwire", drive={"connections": CARRIERS + 1})
        driver.ask("open", GRACE, subject="endless", count=CARRIERS, size=size)
        before = _settled(driver)
        driver.ask("open", GRACE, subject="endless", count=STREAMS, size=size)
        _note(group, row, before, _settled(driver), STREAMS)
