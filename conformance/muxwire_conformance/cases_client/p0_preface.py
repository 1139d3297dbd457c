"""The preface of a call-home connection, as a router answers it (P0-002)."""

from __future__ import annotations

import time
from functools import partial

from muxwire_conformance import wire
from muxwire_conformance.case import SAME
from muxwire_conformance.cases_client._callhome import declare_routed, routed, served
from muxwire_conformance.client_mode.home import HomeLink
from muxwire_conformance.client_mode.router import RouterContext

PREFACE_TIME = 5.0
EARLY = 0.5
"""Seconds that a clock of the router may be ahead of the judge's."""


@routed("P0-002/client-preface", checks=["accepts", "works"])
async def preface(ctx: RouterContext) -> None:
    """A router answers the preface of a worker with one that selects version 1."""
    link = await ctx.dial()
    link.greet()
    await link.welcomed(check="accepts")
    await served(ctx, link, check="works")


@routed("P0-002/client-range", checks=["selects"])
async def version_range(ctx: RouterContext) -> None:
    """Of a range of versions the router selects version 1."""
    link = await ctx.dial()
    link.send(wire.wch_preface(ver_hi=3, ver_lo=1))
    await link.welcomed(check="selects")


@routed("P0-002/client-flags", checks=["accepts"])
async def flags(ctx: RouterContext) -> None:
    """The flags of a preface are ignored."""
    link = await ctx.dial()
    link.send(wire.wch_preface(flags=0xFF))
    await link.welcomed(check="accepts")


@routed("P0-002/client-magic-first", checks=["silent", "answers"])
async def magic_first(ctx: RouterContext) -> None:
    """The router sends nothing before it has 8 octets equal to the magic, then the preface."""
    link = await ctx.dial()
    octets = wire.wch_preface()
    link.send(octets[:7])
    await served(ctx)  # the router has had the time to say something too early
    received = link.transport.received
    ctx.check("silent", received == 0, expected="no octet", actual=f"{received} octets")
    link.send(octets[7:])
    await link.welcomed(check="answers")


# -- octets that are no preface ------------------------------------------------------------------


async def _expect_nothing(ctx: RouterContext, link: HomeLink) -> None:
    """Expect that the router closes without an octet; the twin is welcome."""
    if ctx.twin_run:
        await link.welcomed()
        await link.fence()
        return
    await link.wait_for(lambda: False)
    if link.transport.end is None:
        link.fail("end", "the end of the connection")
    received = link.transport.received
    ctx.check("silent", received == 0, expected="no octet", actual=f"{received} octets")
    link.hold("end")


async def _no_preface(ctx: RouterContext, *, octets: bytes, legal: bytes) -> None:
    link = await ctx.dial()
    link.violate(octets, instead_of=legal)
    await _expect_nothing(ctx, link)


LEGAL = wire.wch_preface()
_NO_PREFACES = (
    ("http", "An HTTP client", b"GET / HTTP/1.1\r\n\r\n", LEGAL),
    ("wmx", "A client of WMX/1", wire.preface(), LEGAL),
    ("magic-octet-0", "Another first octet", wire.wch_preface(magic=b"\xf6WCH\r\n\x1a\n"), LEGAL),
    ("magic-octet-7", "Another 8th octet", wire.wch_preface(magic=b"\xf7WCH\r\n\x1a\r"), LEGAL),
    ("first-octet", "One octet that differs", b"\x16", LEGAL),
    (
        "idle-timeout-99",
        "An idle timeout of 99 ms",
        wire.wch_preface(idle_timeout_ms=99),
        wire.wch_preface(idle_timeout_ms=100),
    ),
    (
        "idle-timeout-1",
        "An idle timeout of 1 ms",
        wire.wch_preface(idle_timeout_ms=1),
        LEGAL,
    ),
    (
        "idle-timeout-600001",
        "An idle timeout of 600,001 ms",
        wire.wch_preface(idle_timeout_ms=600_001),
        wire.wch_preface(idle_timeout_ms=600_000),
    ),
)
for _name, _title, _octets, _legal in _NO_PREFACES:
    declare_routed(
        f"P0-002/client-{_name}",
        f"{_title} is no preface of WCH/1: the router closes without an octet.",
        partial(_no_preface, octets=_octets, legal=_legal),
        checks=["silent", "end"],
        twin=SAME,
    )


@routed(
    "P0-002/client-late-preface", checks=["silent", "end", "not-earlier"], twin=SAME, timed=True
)
async def late_preface(ctx: RouterContext) -> None:
    """A preface that is not complete within 5 s of the accept is none."""
    await ctx.ensure()
    started = time.monotonic()
    link = await ctx.dial()
    octets = wire.wch_preface()
    if ctx.twin_run:
        link.violate(b"", instead_of=octets)
        await _expect_nothing(ctx, link)
        return
    link.violate(octets[:1])
    for index in range(1, 15):  # octets that go on coming do not make it longer
        if await link.until(lambda: link.transport.end is not None, 0.3):
            break
        link.send(octets[index : index + 1])
    left = PREFACE_TIME - (time.monotonic() - started)
    await link.wait_for(lambda: False, max(0.0, left) + 1.0)
    end = link.transport.end
    if end is None:
        link.fail("end", "the end of the connection")
    received = link.transport.received
    ctx.check("silent", received == 0, expected="no octet", actual=f"{received} octets")
    link.hold("end")
    took = end.at - started
    held = took >= PREFACE_TIME - EARLY
    ctx.check("not-earlier", held, expected="5 s", actual=f"{took:.2f} s")


# -- prefaces that are refused -------------------------------------------------------------------


async def _refused(ctx: RouterContext, *, ver_hi: int, ver_lo: int, size: int) -> None:
    link = await ctx.dial()
    offer = wire.wch_preface(ver_hi=ver_hi, ver_lo=ver_lo, header_size=size)
    link.violate(offer, instead_of=wire.wch_preface())
    if ctx.twin_run:
        await link.welcomed()
        await link.fence()
        return
    await link.wait_for(lambda: False)
    seen = link.preface
    if seen is None:
        link.fail("range", "a preface with the range of the router")
    held = seen.ver_lo <= 1 <= seen.ver_hi and seen.header_size == wire.HEADER_SIZE
    ctx.check("range", held, expected="the range of the router, header size 32", actual=seen)
    if link.transport.end is None:
        link.fail("end", "the end of the connection")
    ctx.check("no-frame", not link.frames, expected="no frame", actual=link.frames[:1])
    link.hold("end")


for _name, _title, _hi, _lo, _size in (
    ("version-2", "A worker of version 2", 2, 2, 32),
    ("version-0", "A worker of version 0", 0, 0, 32),
    ("empty-range", "A range whose ver_lo is above its ver_hi", 1, 2, 32),
    ("header-size", "A header size of 48", 1, 1, 48),
):
    declare_routed(
        f"P0-002/client-{_name}",
        f"{_title} is refused with the range of the router; then the router closes.",
        partial(_refused, ver_hi=_hi, ver_lo=_lo, size=_size),
        checks=["range", "no-frame", "end"],
        twin=SAME,
        requirements=["P0-002", "HSK-004"],
    )
