"""The `muxwire` command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from muxwire.cli.call import call
from muxwire.cli.driver import driver
from muxwire.cli.serve import serve
from muxwire.version import VERSION

__all__ = ["main"]


class _Group(click.Group):
    """A group whose errors are one line; `--help` has the rest."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        with _one_line():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with _one_line():
            return super().invoke(ctx)


@contextmanager
def _one_line() -> Iterator[None]:
    """Keep click from printing the usage above an error: it does so for those with a context."""
    try:
        yield
    except click.UsageError as error:
        if type(error).show is click.UsageError.show:  # else it prints the help, for no arguments
            error.ctx = None
        raise


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="muxwire")
def main() -> None:
    """Speak WMX/1: run a worker, call one, have the client tested.

    \b
    Examples:
      muxwire serve --conformance --tcp 127.0.0.1:9000
      muxwire call conformance.echo hi --target 127.0.0.1:9000
      muxwire driver 127.0.0.1:9000
    """  # noqa: D301 - click wants a backspace


main.add_command(serve)
main.add_command(call)
main.add_command(driver)
