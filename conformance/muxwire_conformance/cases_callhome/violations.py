"""Frames that the router must not send: P0-012."""

from __future__ import annotations

from collections.abc import Callable

from muxwire_conformance import wire
from muxwire_conformance.callhome.context import CallhomeContext
from muxwire_conformance.case import SAME, case
from muxwire_conformance.cases._steps import declare
from muxwire_conformance.cases_callhome._steps import (
    NEEDS,
    at_rest,
    killed,
    on,
    refused_link,
    running,
    works,
)

ECHO = "conformance.echo"
OTHER = bytes(range(1, 17))
CHECKS = ["closes", "works"]

Build = Callable[[bytes], bytes]

_BAD: dict[str, tuple[str, Build]] = {
    "accept": ("ACCEPT", wire.accept),
    "reject": ("REJECT", wire.reject),
    "hello": ("HELLO", lambda id: wire.hello(id, bytes(16))),
    "response": ("RESPONSE", lambda id: wire.response(id, 0, b"x")),
    "request": ("REQUEST", lambda id: wire.request(id, 1, b"x")),
    "settings": ("SETTINGS", lambda _id: wire.settings()),
    "window-update": ("WINDOW_UPDATE", lambda _id: wire.window_update(1 << 30)),
    "goaway": ("GOAWAY", lambda _id: wire.goaway()),
    "preface": ("a second preface", lambda _id: wire.wch_preface() * 2),
    "marker": ("a wrong marker", lambda _id: wire.ping(marker=0xF6)),
    "unknown-type": ("an unknown type", lambda _id: wire.frame(type=0x05)),
    "unknown-subtype": (
        "an unknown subtype",
        lambda id: wire.frame(type=3, subtype=0x24, request_id=id),
    ),
    "accept-for-another": ("ACCEPT for another stream", lambda _id: wire.accept(OTHER)),
    "done-for-another": ("DONE for another stream", lambda _id: wire.done(OTHER)),
    "flag": ("a flag that STOP does not have", lambda id: wire.stop(id, flags=wire.MORE)),
    "seq": ("a seq on KILL", lambda id: wire.kill(id, seq=1)),
    "ping-of-7": ("a PING of 7 octets", lambda _id: wire.ping(bytes(7))),
    "ping-with-id": ("a PING with an id", lambda id: wire.ping(bytes(8), request_id=id)),
    "kill-with-zero-id": ("a KILL with the all-zero id", lambda _id: wire.kill(bytes(16))),
    "control-too-long": (
        "a Control frame of 4,097 octets",
        lambda id: wire.stop(id, payload=bytes(4_097)),
    ),
    "ignorable-too-long": (
        "an ignorable frame of 1,048,577 octets",
        lambda _id: wire.grease(length=1_048_577),
    ),
}


def _declare_streaming(name: str, words: str, build: Build) -> None:
    async def streaming(ctx: CallhomeContext) -> None:
        delivery = await running(ctx)
        link = on(delivery)
        link.violate(build(delivery.id), instead_of=wire.ping(ctx.nonce()))
        await refused_link(ctx, link, check="closes")
        if not ctx.twin_run:
            await works(ctx, "works")

    title = f"While a stream runs, {words} ends the connection without a frame."
    declare(f"P0-012/{name}", title, streaming, checks=CHECKS, features=NEEDS, twin=SAME)


for _name, (_words, _build) in _BAD.items():
    _declare_streaming(_name, _words, _build)
_declare_streaming("done-too-early", "DONE before the terminal", wire.done)


def _declare_ended(name: str, words: str, build: Build) -> None:
    async def ended(ctx: CallhomeContext) -> None:
        delivery = await ctx.post(ECHO, b"x")
        response = await delivery.accepted()
        await response.result()
        link = on(delivery)
        link.violate(build(delivery.id), instead_of=wire.ping(ctx.nonce()))
        await refused_link(ctx, link, check="closes")
        if not ctx.twin_run:
            await works(ctx, "works")

    title = f"Behind the terminal, {words} ends the connection without a frame."
    declare(f"P0-012/{name}", title, ended, checks=CHECKS, features=NEEDS, twin=SAME)


_declare_ended("ended-accept", "ACCEPT", wire.accept)
_declare_ended("ended-reject", "REJECT", wire.reject)
_declare_ended("ended-response", "RESPONSE", lambda id: wire.response(id, 0, b"x"))
_declare_ended("ended-done-for-another", "DONE for another stream", lambda _id: wire.done(OTHER))


def _declare_greeting(name: str, words: str, build: Build) -> None:
    async def greeting(ctx: CallhomeContext) -> None:
        delivery = await ctx.post(ECHO, b"insists")
        await delivery.admitted()
        link = await delivery.hello()
        link.violate(build(delivery.id), instead_of=wire.ping(ctx.nonce()))
        await refused_link(ctx, link, check="closes")
        if ctx.twin_run:
            return
        again = await delivery.hello(check="again")
        ctx.check("again", again is not link, expected="another connection", actual=again.label)
        messages = await delivery.result(check="again")
        ctx.check("again", messages == [b"insists"], expected="['insists']", actual=messages)

    declare(
        f"P0-012/{name}",
        f"Between HELLO and ACCEPT, {words} is a failed attempt at delivery.",
        greeting,
        checks=["closes", "again"],
        features=NEEDS,
        requirements=["P0-012", "P0-005"],
        twin=SAME,
    )


_declare_greeting(
    "greeting-accept-for-another", "ACCEPT for another stream", lambda _id: wire.accept(OTHER)
)
_declare_greeting(
    "greeting-reject-for-another", "REJECT for another stream", lambda _id: wire.reject(OTHER)
)
_declare_greeting("greeting-response", "RESPONSE", lambda id: wire.response(id, 0, b"x"))
_declare_greeting(
    "greeting-accept-with-payload", "ACCEPT with a payload", lambda id: wire.accept(id, b"x")
)
_declare_greeting(
    "greeting-reject-of-3", "REJECT of 3 octets", lambda id: wire.reject(id, payload=bytes(3))
)
_declare_greeting("greeting-wmx-settings", "SETTINGS", lambda _id: wire.settings())


@case(
    "P0-012/handler-is-killed",
    checks=["killed", "no-redial"],
    features=NEEDS,
    twin="P0-001/calls-home",
    exclusive=True,
)
async def handler_is_killed(ctx: CallhomeContext) -> None:
    """A violation behind ACCEPT kills the handler, and the stream is not tried again."""
    ctx.require_twin()
    before = await at_rest(ctx)
    delivery = await running(ctx)
    on(delivery).violate(wire.accept(delivery.id))
    await killed(ctx, before, check="killed")
    await works(ctx, "no-redial")
    again = len(delivery.hellos)
    ctx.check("no-redial", again == 1, expected="no further HELLO", actual=again - 1)


@case("P0-012/ignorable-frames", checks=["goes-on", "whole"], features=NEEDS)
async def ignorable_frames(ctx: CallhomeContext) -> None:
    """Ignorable frames are ignored in every state, also large ones."""
    delivery = await ctx.post(ECHO, b"x")
    await delivery.admitted()
    link = await delivery.hello()
    grease = [wire.grease(0x8A, b"?"), wire.frame(b"", type=3, subtype=0x9A)]
    link.send(*grease, wire.grease(0xFA, bytes(100_000)))
    await link.fence(check="goes-on")
    response = delivery.accept()
    link.send(*grease)
    messages = await response.result(check="whole")
    ctx.check("whole", messages == [b"x"], expected="['x']", actual=messages)
    link.send(*grease)
    await link.fence(check="goes-on")
    delivery.done()
    link.send(*grease)
    await link.fence(check="goes-on")
