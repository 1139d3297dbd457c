"""What is judged: an address, or the bundled worker, which the judge starts itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from collections import deque
from dataclasses import dataclass, field, fields, replace
from urllib.parse import parse_qsl, urlencode

from muxwire_conformance.tls import Tls, TlsError

SELF = "self"
START_TIMEOUT = 20.0

_PORT = re.compile(r"[0-9]{1,5}")
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_V6 = re.compile(r"[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?")


class TargetError(ValueError):
    """The target is malformed; the text is one clear line."""


class StartError(Exception):
    """The bundled worker did not start; the text is one clear line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Host and port of a target, and how to speak TLS with it, if at all.

    ``scheme`` is what the user wrote, "" for a bare HOST:PORT: then what listens there tells
    whether it is the path over TCP or those over HTTP.
    """

    host: str
    port: int
    tls: Tls | None = None
    scheme: str = field(default="", compare=False)

    @property
    def url(self) -> str:
        """Return the address with its scheme."""
        return f"{self.scheme or 'tcp'}://{self}"

    def beside(self, port: int) -> Address:
        """Return the address of an HTTP port on the same host."""
        return replace(self, port=port, tls=None, scheme="http")

    def __str__(self) -> str:
        """Return the address as it is written on a command line."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read ``HOST:PORT``, ``[V6]:PORT``, or one with ``tcp://``, ``tls://`` or ``http://``.

    ``tls://HOST:PORT?ca=FILE&cert=FILE&key=FILE&name=NAME`` holds everything about TLS; each part
    behind the question mark may be missing.

    Raises:
        TargetError: the text is none of them.
    """
    rest = text.strip()
    scheme, separator, after = rest.partition("://")
    tls = None
    if separator:
        if scheme.lower() not in ("tcp", "tls", "http"):
            raise TargetError(
                f"target {text!r}: the scheme {scheme!r} is not supported, use tcp://HOST:PORT,"
                " tls://HOST:PORT or http://HOST:PORT"
            )
        rest, _mark, query = after.partition("?")
        rest = rest.rstrip("/")
        if scheme.lower() == "tls":
            tls = _read_tls(text, query)
        elif query:
            raise TargetError(f"target {text!r}: only tls:// takes parameters")
    host, colon, port = rest.rpartition(":")
    if not colon:
        raise TargetError(f"target {text!r}: the port is missing, use HOST:PORT")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    elif ":" in host:
        raise TargetError(f"target {text!r}: write an IPv6 address in brackets, [ADDRESS]:PORT")
    if not (_V6 if bracketed else _NAME).fullmatch(host):
        raise TargetError(f"target {text!r}: {host!r} is no host name or address, use HOST:PORT")
    if not _PORT.fullmatch(port) or not 1 <= int(port) <= 65_535:
        raise TargetError(f"target {text!r}: the port {port!r} is not a number from 1 to 65535")
    known = scheme.lower() if separator else ""
    return Address(host=host, port=int(port), tls=tls, scheme=known)


def _read_tls(text: str, query: str) -> Tls:
    names = {one.name for one in fields(Tls)}
    values = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(set(values) - names)
    if unknown:
        wrong = ", ".join(unknown)
        raise TargetError(f"target {text!r}: {wrong!r} is none of {', '.join(sorted(names))}")
    tls = Tls(**values)
    try:
        tls.context()
    except TlsError as error:
        raise TargetError(f"target {text!r}: {error}") from error
    return tls


def with_tls(target: str, **files: str) -> str:
    """Return a ``tls://`` target with parameters that it lacks; another target stays as it is."""
    if not target.strip().lower().startswith("tls://"):
        return target
    place, _mark, query = target.strip().partition("?")
    values = {**{name: path for name, path in files.items() if path}, **dict(parse_qsl(query))}
    return f"{place}?{urlencode(values, safe='/:')}" if values else place


def default_command() -> list[str]:
    """Return the command that starts the bundled worker."""
    return [
        sys.executable,
        *("-m", "muxwire", "serve", "--conformance", "--json"),
        *("--tcp", "127.0.0.1:0", "--callhome", "127.0.0.1:0", "--http", "127.0.0.1:0"),
        "--exit-with-stdin",
    ]


@dataclass(slots=True, kw_only=True)
class Bundled:
    """The bundled worker as a child process of the judge."""

    process: asyncio.subprocess.Process
    address: Address
    errors: deque[str] = field(default_factory=lambda: deque(maxlen=40))
    _drains: list[asyncio.Task[None]] = field(default_factory=list)

    @classmethod
    async def start(cls, command: list[str] | None = None) -> Bundled:
        """Start the worker and read where it listens from the first line it prints.

        Raises:
            StartError: it did not start or did not say where it listens.
        """
        try:
            # Its own session: a Ctrl-C on the terminal reaches the judge only, which then ends it.
            # Its standard input ends with the judge, however that ends: no worker stays behind.
            process = await asyncio.create_subprocess_exec(
                *(command or default_command()),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                limit=1_048_576,
            )
        except OSError as error:
            raise StartError(f"the bundled worker cannot be started: {error}") from error
        worker = cls(process=process, address=Address(host="", port=0))
        worker._drains.append(asyncio.create_task(worker._read_errors()))
        try:
            async with asyncio.timeout(START_TIMEOUT):
                worker.address = await worker._read_address()
        except BaseException as error:
            await worker.stop()
            if isinstance(error, TimeoutError):
                text = f"the bundled worker said nothing for {START_TIMEOUT:.0f} s"
                raise StartError(text) from error
            raise
        worker._drains.append(asyncio.create_task(worker._read_output()))
        return worker

    async def _read_address(self) -> Address:
        output = self.process.stdout
        line = await output.readline() if output is not None else b""
        if not line:
            status = await self.process.wait()
            await asyncio.sleep(0)
            for drain in self._drains:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(drain), 1)
            tail = f": {self.errors[-1]}" if self.errors else ""
            raise StartError(f"the bundled worker ended at once with status {status}{tail}")
        try:
            return parse_address(json.loads(line)["tcp"])
        except (ValueError, KeyError, TypeError) as error:
            text = f"the bundled worker did not say where it listens but {line[:120]!r}"
            raise StartError(text) from error

    async def _read_output(self) -> None:
        output = self.process.stdout
        while output is not None and await output.read(65_536):
            pass

    async def _read_errors(self) -> None:
        stream = self.process.stderr
        if stream is None:
            return
        with contextlib.suppress(ValueError):
            while line := await stream.readline():
                self.errors.append(line.decode("utf-8", "replace").rstrip())

    def obituary(self) -> str:
        """Say how the process ended, "" while it runs."""
        status = self.process.returncode
        if status is None:
            return ""
        text = f"the bundled worker ended with status {status}"
        return f"{text}: {self.errors[-1]}" if self.errors else text

    async def stop(self) -> None:
        """End the process: SIGTERM, then SIGKILL."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), 2)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    self.process.kill()
                await self.process.wait()
        for drain in self._drains:
            drain.cancel()
        await asyncio.gather(*self._drains, return_exceptions=True)
