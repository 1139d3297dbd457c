"""TLS 1.3 between the pump and the socket (SEC-001, SEC-002).

Rules of this file: towards the socket it is a protocol, towards the pump a transport.  The pump has
its transport from the first moment, so one deadline bounds both handshakes; what it writes waits
until TLS is up, and it reads nothing before version, ALPN token and certificate are checked.
asyncio's own TLS cannot half-close, and the lingering close needs that (CLS-002); this one can.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from os import PathLike
from pathlib import Path as FilePath
from typing import Any, TypeAlias, cast

from muxwire.errors import InvalidArgument
from muxwire.tcp.pump import Pump

ALPN = "wmx/1"

_FIRST = frozenset({0x15, 0x16})
"""Content types that a TLS connection can begin with: an alert, or the handshake."""
_READ = 65_536
_OLD = frozenset({None, "SSLv2", "SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2"})

Path: TypeAlias = str | PathLike[str]


def server_context(
    cert: Path, key: Path | None = None, client_ca: Path | None = None
) -> ssl.SSLContext:
    """Return what a worker needs for TLS 1.3 with ALPN `wmx/1`.

    Args:
        cert: PEM file with the worker's certificate and the chain behind it.
        key: PEM file with its private key, not encrypted; None if `cert` holds it too.
        client_ca: PEM file with the authorities whose clients are let in.  Without it a client
            needs no certificate (SEC-002).

    Raises:
        InvalidArgument: a file cannot be read, or does not hold what it should.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    _load_identity(context, cert, key)
    if client_ca is not None:
        _load_authorities(context, client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(
    ca: Path | None = None, cert: Path | None = None, key: Path | None = None
) -> ssl.SSLContext:
    """Return what a client needs for TLS 1.3 with ALPN `wmx/1`.

    The worker's certificate has to be valid for the host name of the target.

    Args:
        ca: PEM file with the authorities to trust; those of the system by default.
        cert: PEM file with the client's certificate, for a worker that wants one.
        key: PEM file with its private key, not encrypted; None if `cert` holds it too.

    Raises:
        InvalidArgument: a file cannot be read, or does not hold what it should.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    if ca is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        _load_authorities(context, ca)
    if cert is not None:
        _load_identity(context, cert, key)
    elif key is not None:
        raise InvalidArgument("a private key without a certificate")
    return context


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([ALPN])
    return context


def _load_identity(context: ssl.SSLContext, cert: Path, key: Path | None) -> None:
    try:
        for path in (cert, key or cert):  # ssl does not say which file it could not open
            FilePath(path).open("rb").close()
        # An empty password: a key that wants one is an error, not a question on the terminal.
        context.load_cert_chain(cert, key, password="")
    except ssl.SSLError as error:
        files = f"{cert}" if key is None else f"{cert}, {key}"
        raise InvalidArgument(
            f"{files}: no certificate with its private key: {explain(error)}"
        ) from None
    except OSError as error:
        raise InvalidArgument(f"{error.filename}: {error.strerror}") from None


def _load_authorities(context: ssl.SSLContext, ca: Path) -> None:
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise InvalidArgument(f"{ca}: no certificates: {explain(error)}") from None
    except OSError as error:
        raise InvalidArgument(f"{ca}: {error.strerror}") from None


def check_context(context: ssl.SSLContext, *, server: bool) -> None:
    """Refuse a context of the other side, before the first connection finds out.

    Raises:
        InvalidArgument: it cannot be used on this side.
    """
    try:
        context.wrap_bio(
            ssl.MemoryBIO(),
            ssl.MemoryBIO(),
            server_side=server,
            server_hostname=None if server else "localhost",
        )
    except (ssl.SSLError, ValueError):
        maker = "server_context" if server else "client_context"
        raise InvalidArgument(f"the TLS context is of the other side: use {maker}") from None


def explain(error: ssl.SSLError) -> str:
    """Say in a few words what TLS did not like."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if error.reason:
        return error.reason.lower().replace("_", " ")
    return error.strerror or str(error)


def _requirement(error: ssl.SSLError) -> str:
    """Return the rule that a client has broken."""
    without = error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
    wrong = isinstance(error, ssl.SSLCertVerificationError)
    return "SEC-002" if without or wrong else "SEC-001"


class TlsLayer(asyncio.Transport, asyncio.Protocol):
    """One TLS connection.

    Args:
        pump: What drives the connection inside.
        context: From `server_context` or `client_context`.
        server_hostname: The name to verify; None makes this the server.

    Raises:
        ValueError: no certificate can be valid for this name.
    """

    def __init__(
        self, pump: Pump, context: ssl.SSLContext, server_hostname: str | None = None
    ) -> None:
        super().__init__()
        self._pump = pump
        self._server = server_hostname is None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._ssl = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=self._server,
            server_hostname=server_hostname,
        )
        self._raw: asyncio.Transport
        self._waiting: list[bytes] = []  # written before TLS was up
        self._begun = False  # an octet has arrived
        self._up = False
        self._ended = False  # our direction is
        self._failed = False

    # -- what the socket's transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport, and begin."""
        self._raw = cast("asyncio.Transport", transport)
        self._pump.connection_made(self)
        if not self._server:
            self._guard(self._shake)

    def data_received(self, data: bytes) -> None:
        """Take octets of the socket."""
        if self._failed:
            return
        if not self._begun:
            self._begun = True
            if data[0] not in _FIRST:
                self._fail("the other end does not speak TLS")  # SEC-001: without an octet
                return
        self._incoming.write(data)
        self._guard(self._read if self._up else self._shake)

    def eof_received(self) -> bool:
        """Take the end of the octets; the pump says when to close, except after a failure."""
        if self._failed:
            return False
        if self._up:
            return self._pump.eof_received()
        self._fail("closed by the peer during the TLS handshake")
        return False

    def pause_writing(self) -> None:
        """Tell the pump."""
        self._pump.pause_writing()

    def resume_writing(self) -> None:
        """Tell the pump."""
        self._pump.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the pump."""
        if not (self._up or self._failed):
            self._fail("connection lost during the TLS handshake")
        self._pump.connection_lost(error)

    # -- what the pump calls

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of the connection."""
        return self._ssl if name == "ssl_object" else self._raw.get_extra_info(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set how many octets may wait."""
        self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Return how many octets wait."""
        return sum(map(len, self._waiting)) + self._raw.get_write_buffer_size()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and write."""
        if self._failed or self._ended:
            return
        if not self._up:
            self._waiting.append(bytes(data))
            return
        self._guard(lambda: self._encrypt(data))

    def can_write_eof(self) -> bool:
        """Say that a half-close exists: close_notify ends one direction in TLS 1.3."""
        return True

    def write_eof(self) -> None:
        """End our direction and go on reading (CLS-002)."""
        if self._up and not self._ended:
            self._ended = True
            # It says that the peer's end has not come yet; on a broken connection, what broke.
            with suppress(ssl.SSLError):
                self._ssl.unwrap()
            self._flush()

    def is_closing(self) -> bool:
        """Say whether nothing can be written any more."""
        return self._failed or self._raw.is_closing()

    def close(self) -> None:
        """End our direction, and close when all is written."""
        self.write_eof()
        self._raw.close()

    def abort(self) -> None:
        """Drop everything."""
        self._raw.abort()

    # -- TLS

    def _guard(self, step: Callable[[], None]) -> None:
        """Take a step; an error of TLS, once it is told to the peer, ends the connection."""
        try:
            step()
        except ssl.SSLError as error:
            self._flush()
            self._fail(explain(error), _requirement(error) if self._server else "SEC-001")

    def _shake(self) -> None:
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        if self._ssl.version() in _OLD:  # a context of the user's own
            self._refuse("TLS 1.3 was not agreed on")
        elif self._ssl.selected_alpn_protocol() != ALPN:  # the ssl module goes on without one
            self._refuse(f"ALPN {ALPN} was not agreed on")
        else:
            self._up = True
            waiting, self._waiting = self._waiting, []
            for data in waiting:
                self._encrypt(data)
            self._flush()
            self._pump.resume_writing()
            self._read()

    def _refuse(self, reason: str) -> None:
        """End TLS in order; not an octet of ours has gone into it."""
        with suppress(ssl.SSLError):
            self._ssl.unwrap()
        self._flush()
        self._fail(reason)

    def _read(self) -> None:
        """Pass on all that has arrived, then the end if it has come."""
        pieces = []
        end = False
        broken: ssl.SSLError | None = None
        try:
            while piece := self._ssl.read(_READ):
                pieces.append(piece)
            end = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:  # the end, after an end of our own
            end = True
        except ssl.SSLError as error:
            broken = error
        self._flush()
        if pieces:
            self._pump.data_received(b"".join(pieces))
        if broken is not None:
            raise broken
        if end:
            self._pump.eof_received()

    def _encrypt(self, data: bytes | bytearray | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._ssl.write(rest) :]
        self._flush()

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data and not self._raw.is_closing():
            self._raw.write(data)

    def _fail(self, reason: str, requirement: str = "SEC-001") -> None:
        """Give the connection up: half-close, so that an alert arrives, and discard input.

        The core has its word about how long that may last.
        """
        self._failed = True
        self._waiting.clear()
        if not self._raw.is_closing():
            with suppress(OSError):
                self._raw.write_eof()
        self._pump.tls_failed(requirement, reason)
