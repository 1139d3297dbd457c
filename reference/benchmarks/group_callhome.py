"""Call-home: a 64-octet echo with the connection pool and without it."""

from __future__ import annotations

from contextlib import ExitStack

from children import Child, ChildError, UnavailableError
from results import Floor, Group, Target, known, paired
from session import Session, rotated, start

POOLS = ON, OFF = "pool on", "pool off"
CALLERS = (1, 64, 256)
REQUESTS, SLICES, SOAKERS = 100_000, 5, 64
"""The long run: requests, after how many parts the books are read, and callers."""

SLOWEST = 200
"""Requests per second below which the long run is given up."""

WINDOWS = 4
"""Usual windows that one figure takes: a p99 needs many requests."""

ACQUIRING = 0.3
"""Seconds for which connections are borrowed."""


def measure(session: Session) -> Group:
    """Measure the group."""
    group = Group("callhome", "Call-home: 64-octet echo, pool on against pool off")
    group.columns = {
        "rate": "requests/s",
        "p50_us": "p50 us",
        "p99_us": "p99 us",
        "created": "connections per 1,000 requests",
        "reuse": "reused %",
    }
    group.rows = [_row(number, pool) for number in CALLERS for pool in POOLS]
    errors = 0
    with ExitStack() as stack:
        drivers: dict[str, Child] = {}
        for pool in POOLS:
            session.say(f"{group.name}: starting with {pool}")
            try:
                _, drivers[pool] = start(stack, "callhome", serve={"pool": pool == ON})
            except (ChildError, UnavailableError) as error:
                for number in CALLERS:
                    group.reasons[_row(number, pool)] = f"not measured: {error}"
        for run in session.runs(group):
            for number in CALLERS:
                for pool in rotated(list(drivers), run):
                    row = _row(number, pool)
                    answer = session.ask(
                        group,
                        row,
                        drivers[pool],
                        "unary",
                        WINDOWS * session.window + session.warmup,
                        in_flight=number,
                        seconds=WINDOWS * session.window,
                        warmup=session.warmup,
                    )
                    for column in group.columns:
                        group.add(row, column, answer and answer[column])
                    errors += answer["errors"] if answer else 1
        if ON in drivers:
            _soak(session, group, drivers[ON])
        times = _acquire(session, group, drivers[ON]) if ON in drivers else []
    _compare(group, times)
    group.floors.append(
        Floor(label="no errors, with the pool and without", holds=not errors, found=f"{errors}")
    )
    group.notes.append(
        "Each request is a POST over a keep-alive connection, and its response comes back over "
        "call-home. The first run of each number of callers dials what the pool then keeps."
    )
    return group


def _row(number: int, pool: str) -> str:
    return f"{number} {'callers' if number > 1 else 'caller'}, {pool}"


def _acquire(session: Session, group: Group, driver: Child) -> list[float]:
    """Measure what borrowing costs, in microseconds."""
    answers = [
        session.ask(group, ON, driver, "acquire", ACQUIRING, seconds=ACQUIRING)
        for _ in range(session.count)
    ]
    return [answer["us"] for answer in answers if answer]


def _soak(session: Session, group: Group, driver: Child) -> None:
    """Run for long, and see that nothing grows."""
    requests = REQUESTS // (10 if session.quick else 1)
    each = requests // SLICES
    books: list[dict[str, dict[str, int]]] = []
    errors = 0
    for part in range(SLICES):
        session.say(f"{group.name}: part {part + 1} of {SLICES}, {each:,} requests each")
        answer = session.ask(
            group, ON, driver, "soak", each / SLOWEST, requests=each, in_flight=SOAKERS
        )
        if answer is None:
            break
        errors += answer["errors"]
        books.append(answer)
    label = f"{requests:,} requests by {SOAKERS} callers leave nothing behind"
    if len(books) < SLICES:
        group.floors.append(Floor(label=label, holds=False, found=group.why_not(ON)))
        return
    first, last = books[0], books[-1]
    grown = {
        f"{side} {name}": (first[side][name], last[side][name])
        for side, names in (("worker", ("idle", "files", "tasks")), ("router", ("files", "tasks")))
        for name in names
    }
    text = ", ".join(f"{name} {before} to {after}" for name, (before, after) in grown.items())
    group.floors.append(
        Floor(
            label=label,
            holds=not errors and all(after <= before for before, after in grown.values()),
            found=f"{errors} errors; after the first and the last part: {text}",
        )
    )


def _compare(group: Group, times: list[float]) -> None:
    reused: list[float] = []
    for number in CALLERS:
        on, off = _row(number, ON), _row(number, OFF)
        for column, least, moonshot in (("p50_us", 0.9, 0.7), ("p99_us", 0.8, 0.5)):
            group.targets.append(
                Target(
                    label=f"{column[:3]}, pool on / pool off, {number}",
                    values=paired(group.get(on, column), group.get(off, column)),
                    least=least,
                    moonshot=moonshot,
                    falling=True,
                    missing=group.why_not(on, off),
                )
            )
        reused += known(group.get(on, "reuse")[1:])  # the first run is not a steady state
    group.targets += [
        Target(
            label="requests that use a connection again, steady state",
            values=reused,
            least=95,
            moonshot=99.5,
            unit="%",
            missing=group.why_not(_row(CALLERS[0], ON)),
        ),
        Target(
            label="acquire and release, nobody else there",
            values=times,
            least=5,
            moonshot=2,
            unit="us",
            falling=True,
            missing=group.why_not(ON),
        ),
    ]
