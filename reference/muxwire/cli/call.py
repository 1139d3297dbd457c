"""`muxwire call`: send one request and print its answer as it comes."""

from __future__ import annotations

import asyncio
import base64
import importlib
import json
import os
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import click

from muxwire._generated.http import FORMATS
from muxwire.cli import types
from muxwire.cli.loop import run
from muxwire.errors import (
    ConnectError,
    InvalidArgument,
    LocalProtocolError,
    MuxwireError,
    Outcome,
    RequestFailed,
)
from muxwire.tcp.address import render
from muxwire.tcp.caller import Caller
from muxwire.tcp.client import connect
from muxwire.tcp.tls import client_context

EXIT_FAILED = 1
EXIT_UNREACHABLE = 3
EXIT_INTERRUPTED = 130


@click.command()
@click.argument("subject")
@click.argument("data", required=False)
@click.option(
    "--target",
    metavar="ADDRESS",
    required=True,
    envvar="MUXWIRE_TARGET",
    help="The worker: host:port; http://host:port with --via callhome or http.",
)
@click.option(
    "--via",
    type=click.Choice(["tcp", "callhome", "http"]),
    default="tcp",
    show_default=True,
    help="How: callhome posts over HTTP and is called back; http posts and reads the answer.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice([*FORMATS]),
    default="sse",
    show_default=True,
    help="The format of the answer with --via http.",
)
@click.option("--http2", is_flag=True, help="Speak HTTP/2 with --via http, by prior knowledge.")
@click.option(
    "--listen",
    type=types.address,
    metavar="HOST:PORT",
    default="127.0.0.1:0",
    show_default=True,
    help="Where the worker calls back; port 0 takes a free port.",
)
@click.option("--advertise", metavar="HOST[:PORT]", help="What the worker is told to call back.")
@click.option(
    "--file",
    "-f",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path, allow_dash=True),
    help="Read the request message from a file, or from standard input (-).",
)
@click.option(
    "--header",
    "-H",
    "headers",
    type=types.header,
    metavar="KEY=VALUE",
    multiple=True,
    help="Add a header.",
)
@click.option("--tls", is_flag=True, help="Speak TLS; the other --tls options imply it.")
@click.option("--tls-ca", type=types.file, metavar="FILE", help="Trust these authorities only.")
@click.option("--tls-cert", type=types.file, metavar="FILE", help="Show this certificate.")
@click.option("--tls-key", type=types.file, metavar="FILE", help="Its key, if it is not in there.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), help="Seconds it may take.")
@click.option("--idempotent", is_flag=True, help="Running it twice does no harm.")
@click.option("--raw", is_flag=True, help="Print messages without a line end after each.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def call(
    subject: str,
    data: str | None,
    target: str,
    via: str,
    format_: str,
    http2: bool,
    listen: tuple[str, int],
    advertise: str | None,
    file: Path | None,
    as_json: bool,
    raw: bool,
    tls: bool,
    tls_ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    **options: Any,
) -> None:
    """Send one request to SUBJECT and print the messages of its answer as they come.

    The request message is DATA, or --file; DATA - means standard input.

    \b
    Exit codes: 0 success, 1 the request failed, 2 wrong usage, 3 no worker
    there, 130 interrupted.

    \b
    Examples:
      muxwire call conformance.echo hi --target 127.0.0.1:9000
      muxwire call conformance.generate '{"count": 3}' --target 127.0.0.1:9000
      muxwire call llm.generate -f prompt.json --json --target '[::1]:9000'
      muxwire call llm.generate hi --via callhome --target http://10.0.0.7:8080
      muxwire call llm.generate hi --via http --target http://10.0.0.7:8082
    """  # noqa: D301 - click wants a backspace
    if data is not None and file is not None:
        raise click.UsageError("give DATA or --file, not both")
    printer = _Json() if as_json else _Plain(b"" if raw else b"\n")
    try:
        wanted = tls or tls_ca or tls_cert or tls_key
        context = client_context(tls_ca, tls_cert, tls_key) if wanted else None
        connecting: Callable[[], AbstractAsyncContextManager[Caller]]
        if via != "tcp" and context is not None:
            raise InvalidArgument(f"there is no TLS with --via {via}")
        if via == "callhome":
            path = _connect(via)
            connecting = partial(path, target, listen=render(*listen), advertise=advertise)
        elif via == "http":
            connecting = partial(_connect(via), target, format=format_, http2=http2)
        else:
            address = render(*types.address(target))
            connecting = partial(connect, address, connections=1, recover=False, tls=context)
        message = _message(data, file)
        sys.exit(run(_call(connecting, subject, message, printer, options)))
    except InvalidArgument as error:
        raise click.UsageError(str(error)) from None
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _message(data: str | None, file: Path | None) -> bytes:
    if data == "-" or file == Path("-"):
        return sys.stdin.buffer.read()
    if file is not None:
        return file.read_bytes()
    return os.fsencode(data or "")


async def _call(
    connecting: Callable[[], AbstractAsyncContextManager[Caller]],
    subject: str,
    message: bytes,
    printer: _Plain,
    options: dict[str, Any],
) -> int:
    try:
        async with connecting() as client:
            try:
                async with client.stream(subject, message, **options) as stream:
                    async for item in stream:
                        printer.message(item)
                    printer.end(list(stream.trailers))
            except asyncio.CancelledError:
                return EXIT_INTERRUPTED
    except RequestFailed as error:
        printer.failed(error)
        unreachable = error.outcome is Outcome.NOT_SENT and error.code is None
        return EXIT_UNREACHABLE if unreachable else EXIT_FAILED
    except ConnectError as error:
        printer.refused(error)
        return EXIT_UNREACHABLE
    except LocalProtocolError as error:
        raise click.UsageError(str(error)) from None
    except MuxwireError as error:
        printer.refused(error)
        return EXIT_FAILED
    return 0


def _connect(via: str) -> Callable[..., AbstractAsyncContextManager[Caller]]:
    """Return what connects over one of the paths over HTTP.

    Raises:
        click.UsageError: What it needs is not installed.
    """
    try:
        connect_over = importlib.import_module(f"muxwire.{via}").connect
    except ModuleNotFoundError as error:
        raise click.UsageError(
            f"--via {via} needs {error.name}: pip install 'muxwire[{via}]'"
        ) from None
    return partial(connect_over, recover=False)


class _Plain:
    """Messages to standard output, everything else to standard error."""

    def __init__(self, line_end: bytes) -> None:
        self._line_end = line_end

    def message(self, data: bytes) -> None:
        sys.stdout.buffer.write(data + self._line_end)
        sys.stdout.buffer.flush()

    def end(self, trailers: list[tuple[str, str]]) -> None:
        for key, value in trailers:
            click.echo(f"{key}: {value}", err=True)

    def failed(self, error: RequestFailed) -> None:
        click.echo(f"muxwire call: {error}", err=True)

    def refused(self, error: MuxwireError) -> None:
        click.echo(f"muxwire call: {error}", err=True)


class _Json(_Plain):
    """One JSON object a line: message, then end or error."""

    def __init__(self) -> None:
        super().__init__(b"\n")

    def message(self, data: bytes) -> None:
        try:
            self._say(event="message", text=data.decode())
        except UnicodeDecodeError:
            self._say(event="message", base64=base64.b64encode(data).decode())

    def end(self, trailers: list[tuple[str, str]]) -> None:
        self._say(event="end", trailers=trailers)

    def failed(self, error: RequestFailed) -> None:
        self._say(
            event="error",
            outcome=error.outcome.name,
            code=error.code_name,
            number=error.code,
            messages=error.messages,
            retry_after_ms=error.retry_after_ms,
            message=error.message,
        )

    def refused(self, error: MuxwireError) -> None:
        self._say(event="error", outcome="NOT_SENT", code=None, message=str(error))

    def _say(self, **members: Any) -> None:
        super().message(json.dumps(members, ensure_ascii=False).encode())
