"""`muxwire serve`: run a worker until it is told to stop."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import ssl
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from muxwire.cli import types
from muxwire.cli.logs import configure
from muxwire.cli.loop import run
from muxwire.core.config import Config
from muxwire.core.settings import Settings
from muxwire.errors import InvalidArgument
from muxwire.handlers import Handler
from muxwire.serving import serve_until_stopped
from muxwire.tcp.address import explain, parse, render
from muxwire.tcp.tls import server_context
from muxwire.tcp.worker import MAX_CONNECTIONS, Worker

if TYPE_CHECKING:
    from muxwire.callhome import CallHomePath
    from muxwire.http import HttpPath

_TEST: dict[str, int] = {
    "idle_timeout_ms": 3_000,
    "handshake_timeout_ms": 2_000,
    "max_concurrent_requests": 128,
    "connection_window": 8 * 1_048_576,
    "max_message_size": 64 * 1_048_576,
    "max_connections": 64,
}
"""The suggested test configuration, which --conformance takes."""

_SETTINGS = tuple(name for name in Settings.__dataclass_fields__)


@click.command(context_settings={"show_default": True})
@click.option(
    "--tcp",
    "address",
    type=types.address,
    metavar="HOST:PORT",
    default="127.0.0.1:7700",
    help="Where to listen; port 0 takes a free port.",
)
@click.option(
    "--callhome",
    "callhome",
    type=types.address,
    metavar="HOST:PORT",
    help="Where to take requests over HTTP, whose responses call home: muxwire[callhome].",
)
@click.option(
    "--callhome-allow",
    "allow",
    metavar="HOST",
    multiple=True,
    help="An address that may be called besides that of the HTTP peer; may be repeated.",
)
@click.option(
    "--http",
    "http",
    metavar="HOST[:PORT]",
    help="Where to take requests over HTTP and stream responses back: muxwire[http].  Without a "
    "port: DYN_HTTP_RESPONSE_PORT, or 8082.",
)
@click.option(
    "--app",
    metavar="MODULE:NAME",
    help="Handlers to serve: a mapping of subjects to async functions or async generators.",
)
@click.option(
    "--conformance",
    is_flag=True,
    help="Offer the conformance.* subjects and take the suggested test configuration.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the address as one JSON object.")
@click.option(
    "--exit-with-stdin",
    "stdin",
    is_flag=True,
    help="End at once when standard input, a pipe, is closed: for a worker that a program starts.",
)
@click.option("--tls-cert", type=types.file, metavar="FILE", help="Certificate; turns TLS on.")
@click.option("--tls-key", type=types.file, metavar="FILE", help="Its key, if it is not in there.")
@click.option("--tls-client-ca", type=types.file, metavar="FILE", help="Let in its clients only.")
@click.option(
    "--metrics",
    type=types.address,
    metavar="HOST:PORT",
    help="Where to answer Prometheus; it needs the extra muxwire[metrics].",
)
@click.option("--max-connections", type=click.IntRange(1), help=f"[default: {MAX_CONNECTIONS}]")
@click.option("--max-pending", type=click.IntRange(1), default=128, help="Unfinished prefaces.")
@click.option("--handshake-timeout-ms", type=int, help="1,000 to 15,000.  [default: 5000]")
@click.option("--drain-grace-ms", type=click.IntRange(0), default=30_000, help="On SIGTERM.")
@click.option("--slow-consumer-ms", type=click.IntRange(1), default=60_000, help="Without credit.")
@click.option("--idle-timeout-ms", type=int, help="IDLE_TIMEOUT_MS.")
@click.option("--max-concurrent-requests", type=int, help="MAX_CONCURRENT_REQUESTS.")
@click.option("--max-frame-size", type=types.size, metavar="SIZE", help="MAX_FRAME_SIZE.")
@click.option(
    "--initial-stream-window", type=types.size, metavar="SIZE", help="INITIAL_STREAM_WINDOW."
)
@click.option("--connection-window", type=types.size, metavar="SIZE", help="CONNECTION_WINDOW.")
@click.option("--max-metadata-size", type=types.size, metavar="SIZE", help="MAX_METADATA_SIZE.")
@click.option("--max-message-size", type=types.size, metavar="SIZE", help="MAX_MESSAGE_SIZE.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="warning",
    help="What goes to standard error; info has a line for each connection that ends.",
)
@click.option("--log-json", is_flag=True, help="Log one JSON object a line.")
def serve(
    address: tuple[str, int],
    callhome: tuple[str, int] | None,
    allow: tuple[str, ...],
    http: str | None,
    app: str | None,
    conformance: bool,
    as_json: bool,
    stdin: bool,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    metrics: tuple[str, int] | None,
    log_level: str,
    log_json: bool,
    **options: int | None,
) -> None:
    """Run a worker.  SIGTERM or Ctrl-C drains it: running requests may end.

    \b
    Examples:
      muxwire serve --conformance
      muxwire serve --app mymodule:handlers --tcp '[::1]:9000'
      muxwire serve --conformance --tcp 127.0.0.1:0 --json
      muxwire serve --app mymodule:handlers --tls-cert cert.pem --tls-key key.pem
      muxwire serve --app mymodule:handlers --callhome 127.0.0.1:8080
      muxwire serve --app mymodule:handlers --http 127.0.0.1:8082
    """  # noqa: D301 - click wants a backspace
    configure(log_level, as_json=log_json)
    values = {**(_TEST if conformance else {}), **_given(options)}
    try:
        tls = _tls(tls_cert, tls_key, tls_client_ca)
        worker = Worker(
            _load(app) if app else {},
            config=_config(values),
            max_connections=values.get("max_connections", MAX_CONNECTIONS),
            max_pending=values["max_pending"],
            conformance=conformance,
        )
        path = _callhome_path(worker, allow) if callhome or allow else None
        if path is not None and callhome is None:
            raise InvalidArgument("--callhome-allow wants --callhome")
        streaming, streaming_at = _http_path(worker, http) if http else (None, None)
    except InvalidArgument as error:
        raise click.UsageError(str(error)) from None
    if not worker.subjects:
        click.echo("no handlers: every request is answered NOT_FOUND", err=True)

    with _metrics(worker, path, streaming, metrics) as scraped:

        def announce() -> None:
            listening = worker.addresses[0]
            said = {"tcp": listening} | ({"metrics": scraped} if scraped else {})
            if path is not None:
                said["callhome"] = path.addresses[0]
            if streaming is not None:
                said["http"] = streaming.addresses[0]
            how = "" if tls is None else " with TLS"
            click.echo(json.dumps(said) if as_json else f"listening on {listening}{how}")
            if path is not None and not as_json:
                click.echo(f"call-home on http://{path.addresses[0]}")
            if streaming is not None and not as_json:
                click.echo(f"streaming on http://{streaming.addresses[0]}{streaming.root}")
            if scraped and not as_json:
                click.echo(f"metrics on http://{scraped}/metrics")
            sys.stdout.flush()

        async def start() -> None:
            await _listen(worker.start(*address, tls=tls), address)
            if path is not None and callhome is not None:
                await _listen(path.start(*callhome), callhome)
            if streaming is not None and streaming_at is not None:
                await _listen(streaming.start(*streaming_at), streaming_at)

        run(_serve(worker, start, announce, stdin=stdin))


async def _serve(
    worker: Worker,
    start: Callable[[], Awaitable[None]],
    announce: Callable[[], None],
    *,
    stdin: bool,
) -> None:
    try:
        await start()
    except BaseException:
        await worker.close()
        raise
    serving = asyncio.ensure_future(serve_until_stopped(worker, announce=announce))
    if stdin:
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _watch_stdin, serving)
    with suppress(asyncio.CancelledError):
        await serving
    if worker.running_handlers:  # CLS-011: handlers that refuse to end do not keep the process
        logging.shutdown()
        os._exit(0)


async def _listen(starting: Awaitable[None], address: tuple[str, int]) -> None:
    """Start to listen.

    Raises:
        click.ClickException: the address cannot be listened on.
    """
    try:
        await starting
    except OSError as error:
        message = f"cannot listen on {render(*address)}: {explain(error)}"
        raise click.ClickException(message) from None


def _callhome_path(worker: Worker, allow: tuple[str, ...]) -> CallHomePath:
    """Return what serves the worker's handlers over call-home.

    Raises:
        InvalidArgument: an address, or a variable of the environment, is not what it has to be.
        click.ClickException: aiohttp is not installed.
    """
    try:
        from muxwire.callhome import CallHomePath
    except ModuleNotFoundError:
        raise _NotInstalled("--callhome needs aiohttp: pip install 'muxwire[callhome]'") from None
    return CallHomePath(worker, allow=allow)


def _http_path(worker: Worker, text: str) -> tuple[HttpPath, tuple[str, int]]:
    """Return what serves the worker's handlers over HTTP, and where it is to listen.

    Raises:
        InvalidArgument: the address, or a variable of the environment, is not what it has to be.
        click.ClickException: a library is not installed.
    """
    try:
        from muxwire.http import HttpPath
        from muxwire.http.path import default_port
    except ModuleNotFoundError as error:
        raise _NotInstalled(f"--http needs {error.name}: pip install 'muxwire[http]'") from None
    try:
        where = parse(text)
    except InvalidArgument:
        where = parse(f"{text}:{default_port(os.environ)}")
    return HttpPath(worker), where


def _watch_stdin(serving: asyncio.Future[None]) -> None:
    """End the worker when whoever started it has closed its end of standard input."""
    if not os.read(sys.stdin.fileno(), 4_096):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        serving.cancel()


def _tls(cert: Path | None, key: Path | None, client_ca: Path | None) -> ssl.SSLContext | None:
    """Return the context that the options ask for.

    Raises:
        InvalidArgument: they ask for none, or their files are wrong.
    """
    if cert is not None:
        return server_context(cert, key, client_ca)
    if key is not None or client_ca is not None:
        raise InvalidArgument("--tls-key and --tls-client-ca want a --tls-cert")
    return None


class _NotInstalled(click.ClickException):
    """An extra is missing."""

    exit_code = 2


@contextmanager
def _metrics(
    worker: Worker,
    path: CallHomePath | None,
    streaming: HttpPath | None,
    address: tuple[str, int] | None,
) -> Iterator[str | None]:
    """Answer Prometheus, beside the metrics of the process and those of the handlers.

    Raises:
        click.ClickException: prometheus-client is not installed, or the address is taken.
    """
    if address is None:
        yield None
        return
    try:
        from prometheus_client import REGISTRY, start_http_server
        from prometheus_client.registry import Collector as Registered

        from muxwire.callhome.metrics import PoolCollector
        from muxwire.metrics import Collector
    except ImportError:
        raise _NotInstalled(
            "--metrics needs prometheus-client: pip install 'muxwire[metrics]'"
        ) from None
    host, port = address
    try:
        server, thread = start_http_server(port, host)
    except OSError as failure:
        message = f"cannot listen on {render(host, port)}: {explain(failure)}"
        raise click.ClickException(message) from None
    collectors: list[Registered] = [
        Collector(worker, *(one for one in (path, streaming) if one is not None))
    ]
    if path is not None:
        collectors.append(PoolCollector(path.pool_statistics))
    for collector in collectors:
        REGISTRY.register(collector)
    try:
        yield render(host, server.server_port)
    finally:
        for collector in collectors:
            REGISTRY.unregister(collector)
        server.shutdown()
        server.server_close()
        thread.join()


def _given(options: dict[str, int | None]) -> dict[str, int]:
    return {name: value for name, value in options.items() if value is not None}


def _config(values: dict[str, int]) -> Config:
    recommended = Settings.recommended()
    settings = {name: values.get(name, getattr(recommended, name)) for name in _SETTINGS}
    return Config(
        settings=Settings(**settings),
        handshake_timeout=values.get("handshake_timeout_ms", 5_000) / 1000,
        drain_grace=values["drain_grace_ms"] / 1000,
        slow_consumer=values["slow_consumer_ms"] / 1000,
    )


def _load(app: str) -> Mapping[str, Handler]:
    """Import the handlers that `module:name` means.

    Raises:
        InvalidArgument: there is no such module or name, or it is no mapping.
    """
    module, _, name = app.partition(":")
    if not module or not name:
        raise InvalidArgument(f"--app {app!r} is not module:name")
    sys.path.insert(0, str(Path.cwd()))
    try:
        value: Any = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InvalidArgument(f"--app {app!r}: {error}") from None
    if not isinstance(value, Mapping):
        raise InvalidArgument(f"--app {app!r}: not a mapping of subjects to handlers")
    return cast("Mapping[str, Handler]", value)
