"""Find out what listens at the target before judging it.

Everything that is not a WMX worker is refused with one plain sentence, in bounded time. What a
worker does wrong after its magic is not decided here: that is what the cases are for.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from dataclasses import dataclass, field, replace
from typing import Any

from muxwire_conformance import wire
from muxwire_conformance.callback import Callback
from muxwire_conformance.context import Context
from muxwire_conformance.dialogue import Connection
from muxwire_conformance.path_judges import PATH_JUDGES
from muxwire_conformance.paths import TCP
from muxwire_conformance.patience import Patience
from muxwire_conformance.target import Address
from muxwire_conformance.tls import dial
from muxwire_conformance.transport import ConnectError, EndKind, Transport
from muxwire_conformance.verdict import Stopped

PROBE_TIME = 2.0
FENCES = 5
POLL = 0.1

_HTTP_PROBE = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class PreflightError(Exception):
    """The target cannot be judged; the text is one plain sentence."""


class HttpAnswerError(PreflightError):
    """An HTTP server answers where WMX was spoken."""


@dataclass(slots=True, kw_only=True)
class Findings:
    """What is known of the target before the first case.

    ``asked`` says that conformance.info was answered, be it with NOT_FOUND: only then is a missing
    feature a feature that was never declared. ``features`` are the transports that it names, and
    ``conformance`` unless the answer was NOT_FOUND: a wrong answer is no reason to look away.
    ``works`` says that a set-up and a fence succeeded, so that a later failure of them means that
    something happened to the target. ``paths`` says where each path is served; ``closed`` says why
    a path that the target declares cannot be judged.
    """

    info: dict[str, Any] = field(default_factory=dict)
    features: frozenset[str] = frozenset()
    connect_seconds: float = 0.0
    fence_seconds: float = 0.0
    settings: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    asked: bool = False
    works: bool = False
    paths: dict[str, Address] = field(default_factory=dict)
    closed: dict[str, str] = field(default_factory=dict)
    callback: Callback = field(default_factory=Callback)


async def preflight(
    address: Address,
    patience: Patience,
    *,
    wait: float,
    seed: int,
    callback: Callback | None = None,
) -> Findings:
    """Connect, set up, measure, ask who it is, and try the paths that it declares.

    Args:
        address: The target.
        patience: Deadlines; it learns the fence time.
        wait: Seconds to go on trying while nothing listens.
        seed: Seed of the run.
        callback: Where workers can dial back.

    Raises:
        PreflightError: this is no WMX worker, or it cannot be reached.
    """
    callback = callback or Callback()
    connect_seconds = await _dial(address, wait)
    over_http = Findings(connect_seconds=connect_seconds, asked=True, callback=callback)
    if address.scheme == "http":
        return await _look_over_http(over_http, address, patience, seed=seed)
    context = Context(address=address, patience=patience, seed=seed, name="preflight")
    try:
        findings = await _look(context, connect_seconds)
    except HttpAnswerError:
        if address.scheme:
            raise
        return await _look_over_http(over_http, address, patience, seed=seed)
    finally:
        context.abandon()
    findings.callback = callback
    findings.paths[TCP] = address
    await _try_paths(findings, address, patience, seed=seed)
    return findings


async def _dial(address: Address, wait: float) -> float:
    deadline = time.monotonic() + wait
    while True:
        started = time.monotonic()
        try:
            transport = await dial(address, within=PROBE_TIME)
        except ConnectError as error:
            if error.tls:
                raise PreflightError(f"{address.url}: {error}") from error
            if error.reset:
                raise PreflightError(_closes(address, EndKind.RST)) from error
            if time.monotonic() >= deadline:
                text = f"nothing answers at {address}: {error}"
                if error.timed_out:
                    text = f"nothing answers at {address}: the dial got no answer"
                elif error.refused:
                    text = f"nothing listens at {address} (connection refused)"
                if wait:
                    text += f", after waiting {wait:g} s"
                raise PreflightError(text) from error
            await asyncio.sleep(POLL)
        else:
            transport.close()
            return time.monotonic() - started


async def _look(context: Context, connect_seconds: float) -> Findings:
    address = context.address
    try:
        connection = await context.connect()
    except Stopped as error:
        if isinstance(error.__cause__, ConnectError) and error.__cause__.reset:
            raise PreflightError(_closes(address, EndKind.RST)) from error
        raise PreflightError(f"{address} took one connection but not a second: {error}") from error
    connection.send(wire.preface(), connection.settings())
    transport = connection.transport
    await connection.until(lambda: transport.received > 0, PROBE_TIME)
    if transport.received == 0:
        raise await _who_is_silent(address, transport)
    await connection.until(lambda: connection.preface is not None, PROBE_TIME)
    if connection.preface is None:
        raise _name_other(address, _received(transport))
    findings = Findings(connect_seconds=connect_seconds)
    preface = connection.preface
    if (preface.ver_hi, preface.ver_lo) != (1, 1) and not preface.ver_lo <= 1 <= preface.ver_hi:
        low, high = preface.ver_lo, preface.ver_hi
        text = f"{address} speaks WMX but not version 1; it offers {low}..{high}"
        raise PreflightError(text)
    try:
        await connection.expect("SETTINGS")
        await connection.expect("SETTINGS_ACK")
        connection.send(wire.settings_ack())
        findings.settings = dict(connection.peer_settings)
        await _ask(connection, findings)
        await _measure(connection, findings)
        findings.works = True
    except Stopped as error:
        frame = connection.goaway
        limit = wire.code("CONNECTION_LIMIT")
        if frame is not None and frame.goaway is not None and frame.goaway.code == limit:
            raise PreflightError(f"the worker at {address} is at its connection limit") from error
        findings.notes.append(f"the set-up does not complete: {error}")
    await connection.close()
    return findings


async def _look_over_http(
    findings: Findings, address: Address, patience: Patience, *, seed: int
) -> Findings:
    """Ask on each path over HTTP who it is."""
    place = address.beside(address.port)
    troubles = []
    for path in (one for one in PATH_JUDGES if one != TCP):
        started = time.monotonic()
        answer, trouble = await _ask_on(path, place, patience, findings.callback, seed)
        if answer is None:
            troubles.append(f"{path}: {trouble}")
            continue
        findings.paths[path] = place
        if not findings.works:
            findings.works = True
            findings.fence_seconds = time.monotonic() - started
            patience.record(findings.fence_seconds)
            findings.features = frozenset({"conformance"})
            _take_info(findings, answer)
    if not findings.works:
        said = f" ({'; '.join(troubles)})" if troubles else ""
        raise PreflightError(f"an HTTP server listens at {address}, but no worker answers{said}")
    await _try_paths(findings, address, patience, seed=seed)
    return findings


async def _try_paths(
    findings: Findings, address: Address, patience: Patience, *, seed: int
) -> None:
    """Find the paths that the target declares; one that does not answer is closed."""
    ports = findings.info.get("ports")
    for path in PATH_JUDGES:
        if path in findings.paths or path not in findings.features:
            continue
        port = ports.get(path) if isinstance(ports, dict) else None
        if not isinstance(port, int) or not 0 < port < 65_536:
            findings.closed[path] = "conformance.info declares it and names no port for it"
            continue
        place = address.beside(port) if path != TCP else replace(address, port=port, scheme="")
        answer, trouble = await _ask_on(path, place, patience, findings.callback, seed)
        if answer is None:
            findings.closed[path] = f"it is declared and not served at {place.url}: {trouble}"
        else:
            findings.paths[path] = place
    for path, reason in findings.closed.items():
        findings.notes.append(f"the path {path} cannot be judged: {reason}")


async def _ask_on(
    path: str, place: Address, patience: Patience, callback: Callback, seed: int
) -> tuple[dict[str, Any] | None, str]:
    """Ask who it is; return the answer, or None and why there is none."""
    judge = PATH_JUDGES[path]
    context = judge.context(
        address=place, patience=patience, seed=seed, name=f"preflight {path}", callback=callback
    )
    try:
        return await judge.ask(context), ""
    except Stopped as error:
        # Where the way is open, what is wrong behind it is for the cases.
        return ({}, "") if context.reached else (None, str(error))
    finally:
        context.abandon()


async def _measure(connection: Connection, findings: Findings) -> None:
    times = []
    for _ in range(FENCES):
        started = time.monotonic()
        await connection.fence()
        times.append(time.monotonic() - started)
    findings.fence_seconds = sorted(times)[len(times) // 2]


async def _ask(connection: Connection, findings: Findings) -> None:
    stream = connection.open("conformance.info", {})
    answer: dict[str, Any] | None = None
    trouble = ""
    try:
        answer = await stream.json()
    except Stopped as error:
        trouble = str(error)
    findings.asked = stream.terminal is not None
    if stream.error is not None and stream.error.code == wire.code("NOT_FOUND"):
        findings.notes.append(
            "the target has no conformance subjects; cases that need them are not applicable"
        )
    elif not findings.asked:
        findings.notes.append(f"conformance.info does not answer: {trouble}")
    else:
        findings.features = frozenset({"conformance"})
        if answer is None:
            findings.notes.append(f"conformance.info answers, but wrongly: {trouble}")
            return
        _take_info(findings, answer)


def _take_info(findings: Findings, answer: dict[str, Any]) -> None:
    findings.info = answer
    transports = answer.get("transports")
    if isinstance(transports, list):
        findings.features |= {str(name) for name in transports}


def _received(transport: Transport) -> bytes:
    chunks = transport.recording.chunks
    return b"".join(chunk.data for chunk in chunks if chunk.direction.value == "received")[:512]


def _name_other(address: Address, first: bytes) -> PreflightError:
    if first[:5] == b"HTTP/" or first.lstrip()[:1] == b"<":
        return HttpAnswerError(f"an HTTP server listens at {address}, not a WMX worker")
    if first[:1] in (b"\x15", b"\x16") and first[1:2] == b"\x03":
        return PreflightError(f"{address} looks like TLS; use tls://{address}")
    shown = first[:24].decode("latin-1").encode("unicode_escape").decode()
    text = f"something else than a WMX worker listens at {address}: it says '{shown}'"
    return PreflightError(text)


async def _probe(address: Address, data: bytes) -> bytes:
    """Send foreign octets on a new connection and return the first answer, b"" for none."""
    event = asyncio.Event()
    try:
        transport = await Transport.connect(
            address.host,
            address.port,
            within=PROBE_TIME,
            on_bytes=lambda _data, _at: event.set(),
            on_end=lambda _end: event.set(),
        )
    except ConnectError:
        return b""
    transport.write(data)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PROBE_TIME):
            await event.wait()
    answer = _received(transport)
    transport.close()
    return answer


def _client_hello() -> bytes:
    outgoing = ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    return outgoing.read()


async def _who_is_silent(address: Address, transport: Transport) -> PreflightError:
    if address.tls is not None and transport.end is not None:
        asks = "; a target that demands a client certificate does so: --tls-cert"
        return PreflightError(f"{address.url} ends the connection behind the TLS handshake{asks}")
    http, tls = await asyncio.gather(_probe(address, _HTTP_PROBE), _probe(address, _client_hello()))
    if http[:5] == b"HTTP/":
        return HttpAnswerError(f"an HTTP server listens at {address}, not a WMX worker")
    if tls[:1] in (b"\x15", b"\x16") and tls[1:2] == b"\x03":
        return PreflightError(f"{address} looks like TLS; use tls://{address}")
    end = transport.end
    if end is None:
        text = f"{address} takes connections but answers nothing to a WMX preface"
        return PreflightError(text)
    return PreflightError(_closes(address, end.kind))


def _closes(address: Address, kind: EndKind) -> str:
    how = "closes" if kind is EndKind.FIN else "resets"
    return f"what listens at {address} {how} the connection without a byte after a WMX preface"
