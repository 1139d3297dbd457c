"""Cases of the section "Security": they apply to a target that is given as tls://HOST:PORT.

Every attempt is made twice: as the rule forbids it, and as the rule demands it. What counts is
whether an octet of WMX comes back; how a TLS library says no is its own matter.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from muxwire_conformance import wire
from muxwire_conformance.case import SAME, case
from muxwire_conformance.cases._steps import NO_SUBJECT, not_applicable_unless
from muxwire_conformance.cases.hsk import handshake_timeout
from muxwire_conformance.context import Context
from muxwire_conformance.tls import ALPN, Tls, dial
from muxwire_conformance.transport import ConnectError, End

CHECKS = ("no-octet", "end")
TLS_ALERT = 0x15

STRANGER = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg3Ycim4kEezCXg0+W
Xlg0DZi0evm3n2v6yfzRQEGXRguhRANCAAQUN9IepZV3RkGx5Yvt51tb5ckhnWJQ
qAAyAFmlsdPmpBSBY9n2vOkz73RwRFbgbH3mMEZ4rwAM+t29oyMgvnSs
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBijCCAS+gAwIBAgIUUxSZXuT9DGyJHw6BG5neLKE0+AkwCgYIKoZIzj0EAwIw
GTEXMBUGA1UEAwwObm9ib2R5LmludmFsaWQwIBcNMjYxMTMwMDc0OTAzWhgPMjEy
NjExMDYwNzQ5MDNaMBkxFzAVBgNVBAMMDm5vYm9keS5pbnZhbGlkMFkwEwYHKoZI
zj0CAQYIKoZIzj0DAQcDQgAEFDfSHqWVd0ZBseWL7edbW+XJIZ1iUKgAMgBZpbHT
5qQUgWPZ9rzpM+90cERW4Gx95jBGeK8ADPrdvaMjIL50rKNTMFEwHQYDVR0OBBYE
FKdjeSfOPj6wmpl+vv/nVOSbi3i3MB8GA1UdIwQYMBaAFKdjeSfOPj6wmpl+vv/n
VOSbi3i3MA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSQAwRgIhAJpxw2Sy
UkEG+lNFVlLWO7Twpb07TF9BRkWaBJOKAWLMAiEArBFikhOcrcvvr06dxoitTH78
5xXI3OXqX8JDAYUpzls=
-----END CERTIFICATE-----
"""
"""A certificate that no target trusts, and its key, which protects nothing."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of an attempt: how it ended ("" if it did not), and what was heard meanwhile."""

    ended: str
    heard: bytes

    @property
    def answered(self) -> bool:
        """Tell whether there was an octet that is no TLS alert."""
        return self.heard[:1] not in (b"", bytes([TLS_ALERT]))


def _tls(ctx: Context) -> Tls:
    tls = ctx.address.tls
    not_applicable_unless(tls is not None, "judged over plain TCP; use tls://HOST:PORT")
    return tls or Tls()


async def _attempt(ctx: Context, context: ssl.SSLContext | None) -> _Outcome:
    """Begin to speak WMX over TLS, or without it, and see what comes back."""
    heard, event = bytearray(), asyncio.Event()
    ends: list[End] = []

    def on_bytes(data: bytes, _at: float) -> None:
        heard.extend(data)
        event.set()

    def on_end(end: End) -> None:
        ends.append(end)
        event.set()

    address = ctx.address if context else dataclasses.replace(ctx.address, tls=None)
    try:
        transport = await dial(
            address, within=ctx.patience.seconds, context=context, on_bytes=on_bytes, on_end=on_end
        )
    except ConnectError as error:
        return _Outcome(str(error), b"")
    octets = [wire.preface(), wire.settings(), wire.open_request(ctx.new_id(), NO_SUBJECT)]
    transport.write(b"".join(octets))
    outcome = _Outcome("", b"")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ctx.patience.bound(handshake_timeout(ctx))):
            while not ends and not outcome.answered:
                await event.wait()
                event.clear()
                outcome = _Outcome("", bytes(heard))
    transport.close()
    return _Outcome(ends[0].describe() if ends and ends[0].at else "", bytes(heard))


async def _refused(ctx: Context, context: ssl.SSLContext | None, what: str) -> None:
    outcome = await _attempt(ctx, context)
    if ctx.twin_run:
        if not outcome.heard.startswith(wire.MAGIC):
            ctx.unprepared(f"a preface over {what}", outcome.ended or outcome.heard[:16].hex())
        return
    actual = outcome.heard[:32].hex(" ") or "nothing"
    ctx.check("no-octet", not outcome.answered, expected=f"no octet over {what}", actual=actual)
    ctx.check("end", bool(outcome.ended), expected="the end of the connection", actual="no end")


@case("SEC-001/plaintext", checks=CHECKS, twin=SAME)
async def plaintext(ctx: Context) -> None:
    """With TLS on, plaintext is dropped without a WMX octet."""
    tls = _tls(ctx)
    await _refused(ctx, tls.context() if ctx.twin_run else None, "plain TCP")


async def _other_alpn(ctx: Context, alpn: Sequence[str]) -> None:
    tls = _tls(ctx)
    tokens = ctx.pick(tuple(alpn), (ALPN,))
    await _refused(ctx, tls.context(alpn=tokens), f"TLS with the ALPN tokens {tokens}")


@case("SEC-001/alpn-h2", checks=CHECKS, twin=SAME)
async def alpn_h2(ctx: Context) -> None:
    """The worker requires the ALPN token wmx/1, not h2."""
    await _other_alpn(ctx, ["h2"])


@case("SEC-001/no-alpn", checks=CHECKS, twin=SAME)
async def no_alpn(ctx: Context) -> None:
    """The worker requires the ALPN token wmx/1, so a client without any token is dropped."""
    await _other_alpn(ctx, [])


@case("SEC-001/tls-1-2", checks=CHECKS, twin=SAME)
async def tls_1_2(ctx: Context) -> None:
    """The worker requires TLS 1.3 or later."""
    tls = _tls(ctx)
    newest = ctx.pick(ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.MAXIMUM_SUPPORTED)
    await _refused(ctx, tls.context(newest=newest), "TLS 1.2")


def _demanding(ctx: Context) -> Tls:
    tls = _tls(ctx)
    reason = "no --tls-cert is given, so the target demands no client certificate"
    not_applicable_unless(bool(tls.cert), reason)
    return tls


@case("SEC-002/no-certificate", checks=CHECKS, twin=SAME)
async def no_certificate(ctx: Context) -> None:
    """Where client certificates are required, no frame is processed without one."""
    tls = _demanding(ctx)
    own = ctx.pick(("", ""), (tls.cert, tls.key))
    await _refused(ctx, tls.context(own=own), "TLS without a client certificate")


@case("SEC-002/unknown-certificate", checks=CHECKS, twin=SAME)
async def unknown_certificate(ctx: Context) -> None:
    """Where client certificates are required, no frame is processed with one that is unknown."""
    tls = _demanding(ctx)
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(STRANGER)
        file.flush()
        own = ctx.pick((file.name, ""), (tls.cert, tls.key))
        context = tls.context(own=own)
    await _refused(ctx, context, "TLS with an unknown client certificate")
