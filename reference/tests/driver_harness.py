"""A tester's end of the driver protocol: the driver in this process, or as a program.

Every line that a driver writes is checked against the schema of the specification, and so is every
operation, unless a test says that it is meant to be wrong.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

from io_harness import LIMIT, until
from jsonschema import Draft202012Validator
from muxwire.driving import Session

_SCHEMA = json.loads(
    resources.files("muxwire_spec").joinpath("data/wmx-driver-1.schema.json").read_text("utf-8")
)
_OP, _EVENT = (
    Draft202012Validator(_SCHEMA | {"anyOf": [{"$ref": f"#/$defs/{key}"}]})
    for key in ("op", "event")
)

FINAL = ("end", "error")


def b64(data: bytes | str) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


class Tester:
    """What both kinds of driver have in common: operations out, events in.

    Attributes:
        said: Every event so far.
    """

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []

    def heard(self, line: bytes) -> None:
        assert line.endswith(b"\n")
        event = json.loads(line)
        _EVENT.validate(event)
        self.said.append(event)

    def put(self, line: bytes) -> None:
        raise NotImplementedError

    def op(self, op: str, **members: Any) -> None:
        """Send an operation."""
        line = {"op": op, **members}
        _OP.validate(line)
        self.raw(json.dumps(line))

    def raw(self, text: str) -> None:
        """Send a line as it is."""
        self.put(text.encode() + b"\n")

    def all(self, event: str, **members: Any) -> list[dict[str, Any]]:
        """Return the events of a kind that have certain members."""
        wanted = {"event": event, **members}
        return [line for line in self.said if wanted.items() <= line.items()]

    async def event(self, event: str, count: int = 1, **members: Any) -> dict[str, Any]:
        """Return the last of so many events of a kind."""
        await until(lambda: len(self.all(event, **members)) >= count)
        return self.all(event, **members)[count - 1]

    async def final(self, ref: str) -> dict[str, Any]:
        """Return the final event of a request."""
        await until(lambda: [line for line in self.said if is_final(line, ref)])
        return next(line for line in self.said if is_final(line, ref))

    def of(self, ref: str) -> list[dict[str, Any]]:
        """Return what was said about a request, `sent` left out."""
        return [line for line in self.said if line.get("ref") == ref and line["event"] != "sent"]

    def bodies(self, ref: str) -> list[bytes]:
        """Return the messages of a request."""
        return [base64.b64decode(line["body_b64"]) for line in self.all("message", ref=ref)]

    def check(self) -> None:
        """Check what holds for every session."""
        assert [line["event"] for line in self.said].count("ready") == 1
        assert self.said[0]["event"] == "ready"
        over: set[str] = set()
        for line in self.said:
            if line["event"] in ("invalid", "unsupported"):
                continue
            ref = line.get("ref")
            assert ref is None or ref not in over, f"{line} after the final event"
            if line["event"] in FINAL:
                over.add(line["ref"])


def is_final(line: dict[str, Any], ref: str) -> bool:
    return line["event"] in FINAL and line["ref"] == ref


class Inside(Tester):
    """A session in this process."""

    def __init__(self, target: str | None) -> None:
        super().__init__()
        self.session = Session(target, self.heard)

    def put(self, line: bytes) -> None:
        self.session.take(line.rstrip(b"\n"))


@asynccontextmanager
async def driving(target: str | None = None, **connect: Any) -> AsyncIterator[Inside]:
    """Run a session; with a target it is connected.  In the end its input is over."""
    tester = Inside(target)
    running = asyncio.create_task(tester.session.run())
    try:
        if target is not None:
            tester.op("connect", **connect)
        yield tester
        tester.session.end()
        await running
        assert tester.said[-1] == {"event": "closed"}
        tester.check()
        assert not tester.session.open_requests
    finally:
        tester.session.end()
        await running


class Program(Tester):
    """A driver in a process of its own."""

    process: asyncio.subprocess.Process

    def put(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line)

    def close_input(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    async def listen(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.heard(line)


@asynccontextmanager
async def program(
    *arguments: str, command: tuple[str, ...] = (sys.executable, "-m", "muxwire", "driver")
) -> AsyncIterator[Program]:
    """Run a driver as a program, `muxwire driver` by default; in the end it has exited with 0."""
    tester = Program()
    tester.process = await asyncio.create_subprocess_exec(
        *command,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 28,
    )
    listening = asyncio.create_task(tester.listen())
    try:
        yield tester
        tester.close_input()
        async with asyncio.timeout(LIMIT):
            await listening
            assert await tester.process.wait() == 0
            assert tester.process.stderr is not None
            assert await tester.process.stderr.read() == b""
        assert tester.said[-1] == {"event": "closed"}
        tester.check()
    finally:
        if tester.process.returncode is None:
            tester.process.kill()
            await tester.process.wait()
        listening.cancel()
