"""How the judge speaks each path of a worker: the context of its cases, and one question.

A path is judged when it has an entry here and the target serves it. Whatever a path needs beside an
address is made by its own context.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from muxwire_conformance.callhome.context import CallhomeContext, ask_over_callhome
from muxwire_conformance.context import Context
from muxwire_conformance.http.context import HttpContext, ask_info
from muxwire_conformance.paths import CALLHOME, HTTP, TCP


@dataclass(frozen=True, slots=True, kw_only=True)
class PathJudge:
    """What the judge has for one path.

    Attributes:
        context: Makes the context of a case; takes the arguments of ``Context``.
        ask: Asks ``conformance.info`` on this path and returns its answer. It raises ``Stopped``,
            with the reason, where the path is not served.
    """

    context: Callable[..., Any]
    ask: Callable[[Any], Awaitable[dict[str, Any]]]


async def ask_over_tcp(context: Context) -> dict[str, Any]:
    """Ask on the last WMX/1 connection, or on a new one."""
    connection = context.connections[-1] if context.connections else await context.ready()
    return dict(await connection.open("conformance.info", {}).json())


PATH_JUDGES: Mapping[str, PathJudge] = {
    TCP: PathJudge(context=Context, ask=ask_over_tcp),
    CALLHOME: PathJudge(context=CallhomeContext, ask=ask_over_callhome),
    HTTP: PathJudge(context=HttpContext, ask=ask_info),
}
"""The paths that the judge can speak, by name."""
