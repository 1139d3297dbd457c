"""HTTP: the request as a POST, the response as the streamed body of its answer (chapter 22).

A worker::

    async with muxwire.Worker(handlers) as worker:
        await muxwire.http.HttpPath(worker).start("127.0.0.1", 8082)

A client::

    async with muxwire.http.connect("http://127.0.0.1:8082") as client:
        reply = await client.call("conformance.echo", b"hi")

Rules of this package: what needs the extra `http` is imported when it is asked for.  Negotiation,
writers and readers are plain Python and know no library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from muxwire.http.client import Client, connect
    from muxwire.http.path import HttpPath

__all__ = ["Client", "HttpPath", "connect"]

_MODULES = {"Client": "client", "HttpPath": "path", "connect": "client"}
_EXTRA = ("aiohttp", "granian", "h2", "sse_starlette", "starlette")


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _EXTRA:
            raise
        raise ModuleNotFoundError(
            f"muxwire.http needs {error.name}: pip install 'muxwire[http]'", name=error.name
        ) from None
    return getattr(module, name)
