"""What a case gets: connections, checks, randomness from the seed, and questions to the target."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from muxwire_conformance.callback import Callback
from muxwire_conformance.case_context import CaseContext
from muxwire_conformance.dialogue import Body, Connection
from muxwire_conformance.tls import dial
from muxwire_conformance.transport import ConnectError
from muxwire_conformance.verdict import SuiteError, TargetUnreachable

if TYPE_CHECKING:
    from muxwire_conformance.case import Case
    from muxwire_conformance.patience import Patience
    from muxwire_conformance.target import Address


class Context(CaseContext):
    """One run of one case (or of its twin) against one worker.

    Attributes:
        info: The target's answer to ``conformance.info``, empty if it has none.
        callback: Where workers can dial back.
    """

    connections: list[Connection]

    def __init__(
        self,
        *,
        address: Address,
        patience: Patience,
        seed: int,
        case: Case | None = None,
        info: Mapping[str, Any] | None = None,
        features: Iterable[str] = (),
        twin_run: bool = False,
        name: str = "",
        callback: Callback | None = None,
    ) -> None:
        super().__init__(
            patience=patience, seed=seed, case=case, features=features, twin_run=twin_run, name=name
        )
        self.address = address
        self.callback = callback or Callback()
        self.info: dict[str, Any] = dict(info or {})
        self.connections = []

    # -- connections -----------------------------------------------------------------------

    async def connect(self, *, receive_buffer: int | None = None) -> Connection:
        """Make a TCP connection; nothing is sent on it.

        Raises:
            TargetUnreachable: it could not be made.
        """
        try:
            transport = await dial(
                self.address, within=self.patience.seconds, receive_buffer=receive_buffer
            )
        except ConnectError as error:
            raise TargetUnreachable("a new connection", str(error)) from error
        connection = Connection(self, transport, f"connection {len(self.connections) + 1}")
        self.connections.append(connection)
        return connection

    async def ready(
        self, settings: Mapping[str, int] | None = None, *, receive_buffer: int | None = None
    ) -> Connection:
        """Make a connection and complete the set-up; without it the case is INCONCLUSIVE."""
        connection = await self.connect(receive_buffer=receive_buffer)
        await connection.handshake(settings)
        return connection

    async def stats(self, **parameters: object) -> dict[str, int]:
        """Return ``conformance.stats``, asked on a second connection."""
        connection = await self.ready()
        stats = await connection.stats(**parameters)
        await connection.close()
        return stats

    async def wait_for_stats(
        self, connection: Connection, ready: Callable[[dict[str, int]], bool], *, what: str = ""
    ) -> dict[str, int]:
        """Ask for statistics on a connection until they are as wanted; return the last ones.

        What the statistics show may follow a frame by a moment, so this polls. If they never
        become so the case is INCONCLUSIVE; to judge them, compare what ``stats`` returns.
        """
        deadline = self.patience.within(None)
        started = time.monotonic()
        while True:
            stats = await connection.stats()
            if ready(stats):
                return stats
            if deadline is not None and time.monotonic() - started > deadline:
                self.unprepared(what or "statistics as wanted", stats)
            await asyncio.sleep(0.02)

    @staticmethod
    def encode(body: Body) -> bytes:
        """Turn a body into octets: text as UTF-8, a mapping as JSON."""
        if isinstance(body, bytes):
            return body
        if isinstance(body, str):
            return body.encode()
        return json.dumps(body).encode()

    # -- guards against wrong cases --------------------------------------------------------

    def require_feature_of(self, subject: str | bytes) -> None:
        """Refuse a conformance subject in a case that did not declare that it needs one.

        Raises:
            SuiteError: the feature is not declared.
        """
        name = subject if isinstance(subject, str) else subject.decode("latin-1")
        if (
            self.case is not None
            and name.startswith("conformance.")
            and not {"conformance", "conformance?"} & set(self.case.features)
        ):
            raise SuiteError(f"{self.case.id} opens {name} without features=['conformance']")
