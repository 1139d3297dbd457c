"""Give tox the option --target HOST:PORT for its conformance environment.

tox loads this file by itself, because it lies beside tox.ini. The value becomes an
environment key, `{conformance_target}`, which the conformance command in tox.ini uses.
Only hooks that every tox 4 knows: one unknown hook and tox drops the whole file.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tox.plugin import impl
from tox.report import HandledError

if TYPE_CHECKING:
    from tox.config.cli.parser import ToxParser
    from tox.config.sets import ConfigSet, EnvConfigSet
    from tox.session.state import State

ENVIRONMENT = "conformance"
BUNDLED = "self"  # the judge starts the bundled worker on a free port

# tox replaces {words} and splits at spaces, so a target holds neither. The judge checks the rest.
TARGET = re.compile(r"[\w.:/\[\]%-]+")

# The sub-commands that run environments, with their short names.
RUNNING = frozenset({"legacy", "le", "run", "r", "run-parallel", "p"})


@impl
def tox_add_option(parser: ToxParser) -> None:
    """Add --target to every sub-command of tox."""
    parser.add_argument(
        "--target",
        metavar="HOST:PORT",
        of_type=str,
        default=None,
        help=f"what `tox -e {ENVIRONMENT}` judges (default: the bundled worker)",
    )


@impl
def tox_add_core_config(core_conf: ConfigSet, state: State) -> None:  # noqa: ARG001
    """Refuse a target that would be misread, and a target that nothing would look at.

    Raises:
        HandledError: tox prints it as one line and ends with a failure.
    """
    options = state.conf.options
    if options.target is None:
        return
    if not TARGET.fullmatch(options.target):
        # An empty value, say from an unset shell variable, must not judge the bundled worker.
        raise HandledError(f"--target wants HOST:PORT, not {options.target!r}")
    if options.command in RUNNING and ENVIRONMENT not in list(options.env):
        # Without this line `tox --target x` would run the unit tests and look green.
        raise HandledError(
            f"--target (or TOX_TARGET) needs `-e {ENVIRONMENT}`: "
            f"tox -e {ENVIRONMENT} --target {options.target}"
        )


@impl
def tox_add_env_config(env_conf: EnvConfigSet, state: State) -> None:
    """Offer the target to tox.ini as the key conformance_target."""
    env_conf.add_config(
        keys=["conformance_target"],
        of_type=str,
        default=state.conf.options.target or BUNDLED,
        desc="what the conformance environment judges",
    )
