"""muxwire: clients and workers that stream LLM inference over WMX/1.

A client::

    async with muxwire.connect("127.0.0.1:9000") as client:
        reply = await client.call("conformance.echo", b"hi")
        async for item in client.stream("conformance.generate", b'{"count": 3}'):
            ...

A worker::

    async def shout(request: muxwire.Request) -> bytes:
        return (await request.read() or b"").upper()

    asyncio.run(muxwire.serve({"shout": shout}, "127.0.0.1", 9000))
"""

from muxwire._generated.registries import ErrorCode
from muxwire.core.config import Config
from muxwire.core.settings import Settings
from muxwire.errors import (
    ApplicationError,
    ConnectError,
    ConnectionClosed,
    ConnectionLost,
    ConnectionRefused,
    DeadlineExceeded,
    DialFailed,
    Draining,
    HandlerError,
    HandshakeTimedOut,
    InvalidArgument,
    LocalProtocolError,
    MessageTooLarge,
    MuxwireError,
    NotFound,
    NotWorker,
    Outcome,
    Overloaded,
    ProtocolViolation,
    RemoteProtocolError,
    RequestCancelled,
    RequestClosed,
    RequestFailed,
    RequestRejected,
    RequestTooLarge,
    SlowConsumer,
    TlsFailed,
    Unimplemented,
    VersionRefused,
    WorkerError,
    WorkerShutdown,
)
from muxwire.handlers import Handler, Request
from muxwire.serving import serve
from muxwire.tcp.client import Client, connect
from muxwire.tcp.stream import Stream
from muxwire.tcp.tls import client_context, server_context
from muxwire.tcp.worker import Worker
from muxwire.version import VERSION

__version__ = VERSION

__all__ = [
    "ApplicationError",
    "Client",
    "Config",
    "ConnectError",
    "ConnectionClosed",
    "ConnectionLost",
    "ConnectionRefused",
    "DeadlineExceeded",
    "DialFailed",
    "Draining",
    "ErrorCode",
    "Handler",
    "HandlerError",
    "HandshakeTimedOut",
    "InvalidArgument",
    "LocalProtocolError",
    "MessageTooLarge",
    "MuxwireError",
    "NotFound",
    "NotWorker",
    "Outcome",
    "Overloaded",
    "ProtocolViolation",
    "RemoteProtocolError",
    "Request",
    "RequestCancelled",
    "RequestClosed",
    "RequestFailed",
    "RequestRejected",
    "RequestTooLarge",
    "Settings",
    "SlowConsumer",
    "Stream",
    "TlsFailed",
    "Unimplemented",
    "VersionRefused",
    "Worker",
    "WorkerError",
    "WorkerShutdown",
    "__version__",
    "client_context",
    "connect",
    "serve",
    "server_context",
]
