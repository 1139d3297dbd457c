"""The `muxwire` command."""

from __future__ import annotations

import click

from muxwire.cli.call import call
from muxwire.cli.driver import driver
from muxwire.cli.serve import serve
from muxwire.version import VERSION

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
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
