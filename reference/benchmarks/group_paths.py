"""Paths: the same work over TCP, call-home and HTTP, side by side; and how fast HTTP is read."""

from __future__ import annotations

import base64
import time
from contextlib import ExitStack
from typing import Any

from children import Child, ChildError, UnavailableError
from load import ITEM
from results import Group, Target, paired
from session import Session, rotated, start

TCP, HOME, SSE, BINARY = "tcp", "call-home", "http/1.1, sse", "http/1.1, binary"
PATHS: dict[str, dict[str, Any]] = {
    TCP: {"path": "tcp"},
    HOME: {"path": "callhome"},
    SSE: {"path": "http"},
    "http/1.1, ndjson": {"path": "http", "format": "ndjson"},
    BINARY: {"path": "http", "format": "binary"},
    "http/2, sse": {"path": "http", "http2": True},
    "http/2, binary": {"path": "http", "http2": True, "format": "binary"},
}
CALLERS = (1, 64, 256)
SHORT = 100
"""Items of a short stream."""

STREAMS = {1: 10_000, 64: 300}
"""How many streams at a time, and of how many items each."""

EVENTS = 20_000


def measure(session: Session) -> Group:
    """Measure the group."""
    group = Group("paths", "Paths: the same work over each; items have 32 octets")
    group.columns = {
        **{f"rate {n}": f"requests/s, {n}" for n in CALLERS},
        **{f"p50 {n}": f"p50 us, {n}" for n in CALLERS},
        **{f"p99 {n}": f"p99 us, {n}" for n in CALLERS},
        "cpu": "CPU us/request, 64",
        "short": f"p50 us, {SHORT} items",
        **{f"items {n}": f"items/s, {n} streams" for n in STREAMS},
        "cpu items": "CPU us/item, 1 stream",
        "worker": "octets/stream, worker",
        "client": "octets/stream, client",
    }
    group.rows = [*PATHS]
    with ExitStack() as stack:
        drivers = _start(stack, session, group)
        for run in session.runs(group):
            for row in rotated(list(drivers), run):
                _run(session, group, row, drivers[row])
    for row, options in PATHS.items():
        _weigh(session, group, row, options)
    _compare(group)
    group.notes.append(
        "One worker serves all paths. Memory: from 100 to 600 streams that are open and bring "
        "nothing, once, in fresh processes; it does not contain the kernel's buffers."
    )
    return group


def _start(stack: ExitStack, session: Session, group: Group) -> dict[str, Child]:
    drivers: dict[str, Child] = {}
    try:
        server = stack.enter_context(Child("serve", "paths"))
    except (UnavailableError, ChildError) as error:
        group.reasons = dict.fromkeys(PATHS, f"not measured: {error}")
        return drivers
    for row, options in PATHS.items():
        session.say(f"{group.name}: starting {row}")
        try:
            how = {"target": server.ready["target"], "pids": server.pids, **options}
            drivers[row] = stack.enter_context(Child("drive", "paths", how))
        except (UnavailableError, ChildError) as error:
            group.reasons[row] = f"not measured: {error}"
    return drivers


def _run(session: Session, group: Group, row: str, driver: Child) -> None:
    window, warmup = session.window, session.warmup
    for number in CALLERS:
        answer = session.ask(
            group,
            row,
            driver,
            "unary",
            window + warmup,
            in_flight=number,
            seconds=window,
            warmup=warmup,
        )
        for column, key in (("rate", "rate"), ("p50", "p50_us"), ("p99", "p99_us")):
            group.add(row, f"{column} {number}", answer and answer[key])
        if number == 64:
            group.add(row, "cpu", answer and answer["cpu_us"])
    answer = session.ask(
        group, row, driver, "short", window + warmup, count=SHORT, seconds=window, warmup=warmup
    )
    group.add(row, "short", answer and answer["p50_us"])
    for streams, count in STREAMS.items():
        answer = session.ask(
            group, row, driver, "stream", window + 5, streams=streams, count=count, seconds=window
        )
        group.add(row, f"items {streams}", answer and answer["rate"])
        if streams == 1:
            group.add(row, "cpu items", answer and answer["cpu_us"])


def _weigh(session: Session, group: Group, row: str, options: dict[str, Any]) -> None:
    """Measure memory, in processes that have done nothing before."""
    session.say(f"{group.name}: memory over {row}")
    with ExitStack() as stack:
        try:
            _, driver = start(stack, "paths", serve={"pool": 1_024}, drive=options)
        except (UnavailableError, ChildError) as error:
            group.reasons[row] = f"not measured: {error}"
            return
        answer = session.ask(group, row, driver, "stalled", 10.0)
        for side in ("worker", "client"):
            group.add(row, side, answer and answer[side])


def _compare(group: Group) -> None:
    for label, column in ((f"{SHORT} items", "short"), ("unary", "p50 1")):
        group.targets.append(
            Target(
                label=f"p50 of a streamed response, {label}, {SSE} / {HOME}",
                values=paired(group.get(SSE, column), group.get(HOME, column)),
                least=1.1,
                moonshot=1.0,
                falling=True,
                missing=group.why_not(SSE, HOME),
            )
        )
    for row in (BINARY, "http/2, binary"):
        group.targets.append(
            Target(
                label=f"items/s of one stream, {row} / {TCP}",
                values=paired(group.get(row, "items 1"), group.get(TCP, "items 1")),
                least=0.75,
                moonshot=1.0,
                missing=group.why_not(row, TCP),
            )
        )
    for name, body in _bodies().items():
        group.targets.append(
            Target(
                label=f"events read per second, {name}",
                values=[_read(name.partition(" ")[0], body) for _ in range(7)],
                least=500_000,
                moonshot=1_000_000,
                unit="",
            )
        )


def _bodies() -> dict[str, bytes]:
    """Return bodies of items: 32 octets in base64, or a small JSON object."""
    from muxwire._generated import codec

    text = base64.b64encode(ITEM)
    json = b'{"token":"abcdefgh","n":123456}'
    seqs = range(EVENTS)
    me = b"0123456789abcdef"
    return {
        "sse bin": b"".join(b"id: %d\nevent: bin\ndata: %b\n\n" % (i, text) for i in seqs),
        "sse item": b"".join(b"id: %d\nevent: item\ndata: %b\n\n" % (i, json) for i in seqs),
        "ndjson bin": b"".join(b'{"t":"bin","seq":%d,"b64":"%b"}\n' % (i, text) for i in seqs),
        "ndjson item": b"".join(b'{"t":"item","seq":%d,"data":%b}\n' % (i, json) for i in seqs),
        "binary": b"".join(codec.response_header(0, i, len(ITEM), me) + ITEM for i in seqs),
    }


def _read(format_: str, body: bytes) -> float:
    """Read a body in pieces of 64 KiB; return events per second."""
    from muxwire.core.http import READERS

    reader = READERS[format_](1 << 20)
    pieces = [body[at : at + 65_536] for at in range(0, len(body), 65_536)]
    begun = time.perf_counter()
    found = sum(len(list(reader.read(piece))) for piece in pieces)
    seconds = time.perf_counter() - begun
    if found != EVENTS:
        raise AssertionError(f"{found} events instead of {EVENTS}")
    return found / seconds
