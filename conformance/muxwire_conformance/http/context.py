"""What a case of chapter 22 gets: connections of either version of HTTP, and questions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from muxwire_conformance.case_context import CaseContext
from muxwire_conformance.context import Context
from muxwire_conformance.http.answer import Answer
from muxwire_conformance.http.connection import (
    FORMAT_TYPES,
    H1,
    NDJSON_TYPE,
    H1Connection,
    HttpConnection,
)
from muxwire_conformance.http.h2 import LARGE_WINDOW
from muxwire_conformance.http.h2_connection import H2Connection
from muxwire_conformance.target import Address
from muxwire_conformance.transport import ConnectError, Transport
from muxwire_conformance.verdict import NotApplicable, SuiteError, TargetUnreachable, Unprepared

if TYPE_CHECKING:
    from muxwire_conformance.callback import Callback
    from muxwire_conformance.case import Case
    from muxwire_conformance.patience import Patience

POLL = 0.02


class HttpContext(CaseContext):
    """One run of one case (or of its twin) against one worker.

    Attributes:
        info: The target's answer to ``conformance.info``, empty if it has none.
    """

    connections: list[HttpConnection]

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
        callback: Callback | None = None,  # noqa: ARG002 - on this path nobody dials back
    ) -> None:
        super().__init__(
            patience=patience, seed=seed, case=case, features=features, twin_run=twin_run, name=name
        )
        self.address = address
        self.info = dict(info or {})
        self.connections = []

    async def http(
        self,
        version: str = H1,
        *,
        receive_buffer: int | None = None,
        window: int = LARGE_WINDOW,
    ) -> HttpConnection:
        """Make a connection of a version of HTTP.

        Args:
            version: ``h1`` or ``h2``.
            receive_buffer: SO_RCVBUF; small values make the worker feel an unread connection soon.
            window: HTTP/2: octets of a stream that the worker may send before they are read.

        Raises:
            TargetUnreachable: it could not be made.
        """
        try:
            transport = await Transport.connect(
                self.address.host,
                self.address.port,
                within=self.patience.seconds,
                receive_buffer=receive_buffer,
            )
        except ConnectError as error:
            raise TargetUnreachable("a new connection", str(error)) from error
        label = f"connection {len(self.connections) + 1}"
        connection: HttpConnection
        if version == H1:
            connection = H1Connection(self, transport, label)
        else:
            connection = H2Connection(self, transport, label, window=window)
        self.connections.append(connection)
        return connection

    async def announced(self, name: str) -> int:
        """Return a setting that the worker announces on the path over TCP.

        Raises:
            NotApplicable: it does not serve that path.
        """
        port = self.info.get("ports", {}).get("tcp")
        if not isinstance(port, int):
            raise NotApplicable(f"{name} is announced on the path over TCP, which is not served")
        place = Address(host=self.address.host, port=port)
        context = Context(address=place, patience=self.patience, seed=0, name="settings")
        try:
            return (await context.ready()).peer_settings[name]
        finally:
            context.abandon()

    async def stats(self, **parameters: object) -> dict[str, int]:
        """Return ``conformance.stats``, asked on a connection of its own."""
        connection = await self.http()
        stats = await ask_stats(connection, **parameters)
        await connection.close()
        return stats

    async def wait_for_stats(
        self,
        connection: HttpConnection,
        ready: Callable[[dict[str, int]], bool],
        *,
        what: str,
        check: str | None = None,
        within: float | None = None,
    ) -> dict[str, int]:
        """Ask for statistics until they are as wanted; return them."""
        deadline = self.patience.within(within)
        started = time.monotonic()
        while True:
            stats = await ask_stats(connection)
            if ready(stats):
                if check is not None:
                    self.emit(check)
                return stats
            if deadline is not None and time.monotonic() - started > deadline:
                if check is not None:
                    self.check(check, False, expected=what, actual=stats)
                self.unprepared(what, stats)
            await asyncio.sleep(POLL)

    async def refusal(self, answer: Answer, status: int, code: str, **more: Any) -> None:
        """Judge a refusal; in the run of the twin the request is served instead."""
        if self.twin_run:
            await answer.served()
        else:
            await answer.refused(status, code, **more)

    def require_feature_of(self, subject: str) -> None:
        """Refuse a conformance subject in a case that did not declare that it needs one.

        Raises:
            SuiteError: the feature is not declared.
        """
        if (
            self.case is not None
            and subject.startswith("conformance.")
            and not {"conformance", "conformance?"} & set(self.case.features)
        ):
            raise SuiteError(f"{self.case.id} asks {subject} without features=['conformance']")


async def ask_stats(connection: HttpConnection, **parameters: object) -> dict[str, int]:
    """Return ``conformance.stats``."""
    answer = connection.post("conformance.stats", parameters, accept=NDJSON_TYPE)
    return {name: int(value) for name, value in (await answer.json()).items()}


async def ask_info(context: HttpContext) -> dict[str, Any]:
    """Return ``conformance.info``; a target that gets one format wrong is asked in another."""
    for type_ in FORMAT_TYPES:
        connection = await context.http()
        answer = connection.post("conformance.info", {}, accept=type_)
        try:
            found = await answer.json()
        except Unprepared:
            if type_ == FORMAT_TYPES[-1]:
                raise
        else:
            return {name: _plain(value) for name, value in found.items()}
    raise AssertionError("there are three formats")


def _plain(value: Any) -> Any:
    """Return a JSON value with its numbers as they are used."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value
