"""TLS between the judge and the target: TLS 1.3 and the ALPN token ``wmx/1``, or what a case wants.

Rules of this file:

* Above this file octets are plain: nothing else knows about records. Below it they are records, so
  a dribble cuts records.
* The end of the TLS stream and the end of the TCP connection are the same end; an alert is a reset.
* A handshake that fails is a ``ConnectError`` with the reason in words.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muxwire_conformance.transport import ConnectError, EndKind, Transport

if TYPE_CHECKING:
    from muxwire_conformance.target import Address

ALPN = "wmx/1"


class TlsError(ValueError):
    """The files for TLS cannot be used; the text is one clear line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How to speak TLS with a target.

    Args:
        ca: Certificates that the target's has to lead to, "" for those of the system.
        cert: The judge's own certificate, "" for none.
        key: Its key, "" if it is in the same file.
        name: The name in the target's certificate, "" for the host dialled.
    """

    ca: str = ""
    cert: str = ""
    key: str = ""
    name: str = ""

    def context(
        self,
        *,
        alpn: Sequence[str] = (ALPN,),
        newest: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED,
        own: tuple[str, str] | None = None,
    ) -> ssl.SSLContext:
        """Return the context of a client.

        Args:
            alpn: The tokens to offer.
            newest: The newest version to offer; below 1.3 nothing newer than it.
            own: Certificate and key to show instead, ``("", "")`` to show none.

        Raises:
            TlsError: a file cannot be read or is no certificate.
        """
        cert, key = (self.cert, self.key) if own is None else own
        for path in filter(None, (self.ca, cert, key)):
            try:
                there = Path(path).is_file()
            except OSError:  # no name that a file can have
                there = False
            if not there:
                raise TlsError(f"{path if path.isprintable() else repr(path)} is no file")
        try:
            context = ssl.create_default_context(cafile=self.ca or None)
            if cert:
                context.load_cert_chain(cert, key or None)
        except (ssl.SSLError, OSError) as error:
            raise TlsError(f"{cert or self.ca} cannot be used: {error}") from error
        if newest is ssl.TLSVersion.MAXIMUM_SUPPORTED:
            context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.maximum_version = newest
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context


async def dial(
    address: Address,
    *,
    within: float | None,
    context: ssl.SSLContext | None = None,
    **options: Any,
) -> Transport:
    """Connect to a target as its address says, and complete the TLS handshake.

    Args:
        address: The target.
        within: Seconds for each step, None for no limit.
        context: Used instead of what the address says.
        **options: Passed on to ``Transport.connect``.

    Raises:
        ConnectError: the connection or the handshake failed.
        TlsError: a file of the address cannot be used.
    """
    if address.tls is None:
        return await Transport.connect(address.host, address.port, within=within, **options)
    context = context or _usual_context(address.tls)
    transport = await TlsTransport.connect(address.host, address.port, within=within, **options)
    try:
        await transport.handshake(context, address.tls.name or address.host, within)
    except BaseException:
        transport.abort()
        raise
    return transport


@functools.cache
def _usual_context(tls: Tls) -> ssl.SSLContext:
    """Return the context of every ordinary connection; reading the files takes a while."""
    return tls.context()


class TlsTransport(Transport):
    """A transport whose octets travel in TLS records."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._session: ssl.SSLObject | None = None
        self._settled = asyncio.Event()
        self._ready = False
        self._trouble: ssl.SSLError | None = None

    async def handshake(
        self, context: ssl.SSLContext, name: str, within: float | None
    ) -> ssl.SSLObject:
        """Complete the handshake and return the session.

        Raises:
            ConnectError: it failed.
        """
        self._session = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._advance()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._settled.wait()
        if self._ready:
            return self._session
        if self._trouble is not None:
            text = self._trouble.reason or str(self._trouble)
            plain = "WRONG_VERSION" in text or "UNKNOWN" in text or "RECORD_LAYER" in text
            words = "it does not speak TLS" if plain else text.lower().replace("_", " ")
            verify = getattr(self._trouble, "verify_message", "")
            raise ConnectError(f"the TLS handshake failed: {verify or words}", tls=True)
        if self.end is not None:
            raise ConnectError("the TLS handshake failed: the connection ended", tls=True)
        raise ConnectError("the TLS handshake failed: no answer", tls=True)

    def half_close(self) -> None:
        """Close the TLS stream of this direction, then send FIN."""
        if self._ready and self._session is not None:
            with contextlib.suppress(ssl.SSLError):
                self._session.unwrap()
            self._send_records()
        super().half_close()

    def _advance(self) -> None:
        if self._session is None:
            return
        try:
            self._session.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._trouble = error
            self._settled.set()
        else:
            self._ready = True
            self._settled.set()
        self._send_records()

    def _send_records(self) -> None:
        if records := self._outgoing.read():
            self._enqueue(records)

    def _encode(self, data: bytes) -> bytes:
        if self._session is None or not self._ready or self._trouble is not None:
            return b""
        try:
            self._session.write(data)
        except ssl.SSLError as error:
            self._trouble = error
        return self._outgoing.read()

    def _take(self, data: bytes) -> None:
        self._incoming.write(data)
        if not self._ready:
            self._advance()
        while self._ready and self._session is not None and self.end is None:
            try:
                plain = self._session.read(262_144)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                self._ended(EndKind.FIN)
                break
            except ssl.SSLError as error:
                self._trouble = error
                self._ended(EndKind.RST)
                break
            if not plain:
                self._ended(EndKind.FIN)
                break
            super()._take(plain)
        self._send_records()

    def _ended(self, kind: EndKind) -> None:
        super()._ended(kind)
        self._settled.set()
