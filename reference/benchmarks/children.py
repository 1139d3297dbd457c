"""Child processes of the benchmark, as the parent sees them.

Rules of this file: a child speaks JSON, one object a line, on stdin and stdout, and ends when its
stdin does.  Every wait has a limit, and leaving the context stops the child, whatever it is doing.
"""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any

HERE = Path(__file__).parent
STARTING = 20.0
"""Seconds that a child has to say that it is ready."""
STOPPING = 1.5
"""Seconds that a child has to end by itself."""


class UnavailableError(Exception):
    """The system cannot be measured here; the text says why."""


class ChildError(Exception):
    """A child ended, answered with an error, or did not answer in time."""


class Child:
    """One process: `serve SYSTEM OPTIONS` or `drive SYSTEM OPTIONS`.

    Attributes:
        ready: What the child said when it was ready.

    Raises:
        UnavailableError: the system, or something that it needs, is not installed.
        ChildError: the child did not start.
    """

    def __init__(self, role: str, system: str, options: dict[str, Any] | None = None) -> None:
        self.name = f"{system} {role}"
        self._noise: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - `stop` closes it
        self._unread = b""
        # A session of its own: Ctrl-C reaches the parent alone, which then stops its children.
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "peer.py"), role, system, json.dumps(options or {})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._noise,
            start_new_session=True,
        )
        try:
            self.ready = self._answer(STARTING)
        except BaseException:
            self.stop()
            raise

    @property
    def pids(self) -> list[int]:
        """The processes of this child, itself included."""
        return list(self.ready.get("pids", [])) or [self._process.pid]

    def ask(self, command: str, limit: float, /, **options: Any) -> dict[str, Any]:
        """Let the child do something and return its answer.

        Args:
            command: What to do.
            limit: Seconds to wait for the answer.
            options: What the command needs to know.

        Raises:
            ChildError: there is no answer, or it is an error.
        """
        stdin = self._process.stdin
        if stdin is None:
            raise ChildError(f"{self.name}: no stdin")
        try:
            stdin.write(json.dumps({"do": command, **options}).encode() + b"\n")
            stdin.flush()
        except OSError as error:
            raise ChildError(f"{self.name}: {error}; {self._last_words()}") from None
        return self._answer(limit)

    def stop(self) -> None:
        """End the process, by force if need be."""
        process = self._process
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    continue
        try:
            process.wait(STOPPING)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._noise.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _answer(self, limit: float) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._line(limit))
        if "unavailable" in answer:
            raise UnavailableError(answer["unavailable"])
        if "error" in answer:
            raise ChildError(f"{self.name}: {answer['error']}")
        return answer

    def _line(self, limit: float) -> bytes:
        stdout = self._process.stdout
        if stdout is None:
            raise ChildError(f"{self.name}: no stdout")
        end = time.monotonic() + limit
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                left = end - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise ChildError(f"{self.name}: no answer within {limit:.0f} s")
                octets = stdout.read1(65_536)  # type: ignore[attr-defined]
                if not octets:
                    raise ChildError(f"{self.name}: it ended; {self._last_words()}")
                self._unread += octets
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _last_words(self) -> str:
        self._noise.seek(0)
        lines = self._noise.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "without a word"
