"""Call-home: HTTP request, response over a pooled TCP connection that the worker dials back.

A client::

    async with muxwire.callhome.connect("http://127.0.0.1:8080") as client:
        reply = await client.call("conformance.echo", b"hi")

A worker::

    async with muxwire.Worker(handlers) as worker:
        await muxwire.callhome.CallHomePath(worker).start("127.0.0.1", 8080)

Rules of this package: what needs aiohttp, the extra `callhome`, is imported when it is asked for.
The pool works without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from muxwire.callhome.client import Client, connect
    from muxwire.callhome.worker import CallHomePath

__all__ = ["CallHomePath", "Client", "connect"]

_MODULES = {"CallHomePath": "worker", "Client": "client", "connect": "client"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    except ModuleNotFoundError as error:
        if error.name != "aiohttp":
            raise
        raise ModuleNotFoundError(
            "muxwire.callhome needs aiohttp: pip install 'muxwire[callhome]'", name="aiohttp"
        ) from None
    return getattr(module, name)
