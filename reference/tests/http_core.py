"""What the tests of a response over HTTP share: a caller that keeps all it is told, and vectors."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from muxwire.core.events import ResponseFailed
from muxwire.core.http import READERS, Response

VECTORS = Path(__file__).resolve().parents[2] / "spec" / "vectors" / "http"
LIMIT = 1_048_576
START = 100.0
SILENCE = 10.0
FORMATS = tuple(READERS)


class Caller:
    """Keeps what a response tells."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.costs: list[int] = []
        self.headers: list[tuple[bytes, bytes]] | None = None
        self.trailers: list[tuple[bytes, bytes]] | None = None
        self.error: ResponseFailed | None = None
        self.words = 0

    def on_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        self.headers = headers

    def on_message(self, data: bytes, cost: int) -> None:
        assert not self.words
        self.messages.append(data)
        self.costs.append(cost)

    def on_end(self, trailers: list[tuple[bytes, bytes]]) -> None:
        self.trailers = trailers
        self.words += 1

    def on_failed(self, event: ResponseFailed) -> None:
        self.error = event
        self.words += 1

    @property
    def outcome(self) -> str:
        """SUCCESS, or the class of the failure."""
        assert self.words == 1
        return "SUCCESS" if self.error is None else self.error.outcome.name


def begin(caller: Caller, deadline: float | None = None) -> Response:
    """A response that nothing has happened to."""
    return Response(caller, caller.on_failed, b"me", deadline=deadline, silence=SILENCE)


def headed(caller: Caller, format_: str, deadline: float | None = None) -> Response:
    """A response whose 200 has come."""
    response = begin(caller, deadline)
    response.posted()
    response.sent(START)
    response.started(READERS[format_](LIMIT), START)
    return response


def receive(format_: str, pieces: Iterable[bytes], *, clean: bool = True) -> Caller:
    """What a caller is told of a body in these pieces."""
    caller = Caller()
    response = headed(caller, format_)
    for piece in pieces:
        response.receive(piece, START)
    if clean:
        response.ended()
    else:
        response.cut("cut")
    return caller


def pieces(body: bytes, size: int) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


def vectors(*files: str) -> dict[str, dict[str, Any]]:
    return {
        vector["name"]: vector
        for file in files
        for vector in json.loads((VECTORS / f"{file}.json").read_bytes())["vectors"]
    }
