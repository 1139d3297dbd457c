"""Where the handlers of a connection run.

Rules of this file: a task costs more than a short handler, so handlers that never suspend share
one: it runs them one after the other and lives for a single step.  A handler that suspends keeps
the task to its end, and those behind it get tasks of their own.  Nobody can tell the difference:
each handler is alone in a real task while it runs, in the context of its connection.  Every request
gets its answer, also if its handler was cancelled before its first step (STM-005).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import partial
from typing import Protocol

from muxwire._generated.registries import ErrorCode
from muxwire.handlers import Handler, Request, Responder, run

logger = logging.getLogger("muxwire.worker")


class Answering(Responder, Protocol):
    """A responder that is told that its handler is to stop."""

    cancelled: bool


class Running:
    """A handler that runs or is about to.

    Attributes:
        begun: It has had its first step, or its answer.
    """

    __slots__ = ("_task", "begun", "handler", "request", "responder")

    def __init__(self, handler: Handler, request: Request, responder: Answering) -> None:
        self.handler = handler
        self.request = request
        self.responder = responder
        self.begun = False
        self._task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        """Cancel the handler, whether or not it has begun."""
        self.responder.cancelled = True
        if self._task is not None:
            self._task.cancel()

    async def run(self, task: asyncio.Task[None]) -> None:
        """Run the handler in a task, or answer for it if it is cancelled already."""
        self.begun = True
        if self.responder.cancelled:
            self.responder.fail(ErrorCode.CANCELLED, "")
            return
        self._task = task
        try:
            await run(self.handler, self.request, self.responder)
        except BaseException as error:
            logger.error("a handler ended in an unexpected way", exc_info=error)
            self.responder.fail(ErrorCode.APPLICATION_ERROR, "the handler failed")
            if not isinstance(error, Exception):
                raise


class Runner:
    """Runs the handlers of one connection.

    Args:
        tasks: Every task that runs handlers is in it until it is done.
        ended: Called with each handler that has ended.
        flush: Called when a batch of handlers has run.
    """

    def __init__(
        self,
        tasks: set[asyncio.Task[None]],
        ended: Callable[[Running], None],
        flush: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks = tasks
        self._ended = ended
        self._flush = flush
        self._context: Context = copy_context()
        self._queue: deque[Running] = deque()
        self._shared: asyncio.Task[None] | None = None

    def start(self, running: Running) -> None:
        """Run a handler on the next turn of the loop."""
        self._queue.append(running)
        if self._shared is None:
            self._shared = self._spawn(None)

    def _spawn(self, own: Running | None) -> asyncio.Task[None]:
        task = self._loop.create_task(self._work(own), context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(partial(self._done, own))
        return task

    def _done(self, own: Running | None, task: asyncio.Task[None]) -> None:
        """Answer for those who had no first step because somebody cancelled the task."""
        self._tasks.discard(task)
        unheard = [] if own is None or own.begun else [own]
        if self._shared is task and task.cancelled():
            unheard += self._queue
            self._queue.clear()
            self._shared = None
        for running in unheard:
            running.responder.fail(ErrorCode.CANCELLED, "")
            self._ended(running)

    async def _work(self, own: Running | None) -> None:
        """Run one handler, or those in the queue until one of them suspends."""
        task = asyncio.current_task()
        assert task is not None
        if own is not None:
            await self._run(own, task)
            return
        self._loop.call_soon(self._hand_over, task)
        queue = self._queue
        while queue:
            await self._run(queue.popleft(), task)
            if self._shared is not task:
                return  # it was suspended
            if copy_context() != self._context:
                break  # the next handler is not to see what this one has set
        self._flush()

    async def _run(self, running: Running, task: asyncio.Task[None]) -> None:
        try:
            await running.run(task)
        finally:
            self._ended(running)

    def _hand_over(self, task: asyncio.Task[None]) -> None:
        """Give those whom a suspended handler keeps waiting tasks of their own."""
        if self._shared is task:
            self._shared = None
            while self._queue:
                self._spawn(self._queue.popleft())
