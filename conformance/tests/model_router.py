"""The model router of the call-home path, written from chapter 21 alone: it posts and is dialled.

It stands in the place of the pool of `model_client`: what becomes of a request over its attempts is
`model_client_recovery`, as on the other path. Here are the streams: a token for each (P0-018), and
an end for each, whatever the worker does (P0-019).
"""

from __future__ import annotations

import asyncio
import hmac
import math
import random
import secrets
import uuid
from typing import TYPE_CHECKING, Any

import model_client_wire as cw
import model_wire as w
from model_client_call import Call, Class, Phase, Verdict
from model_client_pool import split_address
from model_router_connection import HomeConnection
from model_router_http import Answer, Posting

if TYPE_CHECKING:
    from model_client import Client

ROOT = "/v1/rpc/"
TOKEN_LIFE = 15.0
KILL_PATIENCE = 5.0
KILL_PATIENCE_DEADLINE = 1.0
MAX_MESSAGE = 67_108_864


class HomeCall(Call):
    """A request on this path: one message, and a KILL that differs before and behind ACCEPT."""

    home: HomeStream | None = None

    @property
    def body(self) -> bytes:
        """Return the message."""
        return self.messages[0]

    def fields(self) -> cw.Headers:
        """Return the headers of the next attempt."""
        fields = [] if self.flaw("p0-no-headers") else list(self.headers)
        if self.attempts and not self.flaw("rec-no-attempt-field"):
            fields.append(("attempt", str(self.attempts + 1)))
        return fields

    def left_ms(self) -> int:
        """Return what is left of the deadline, 0 for none."""
        if self.deadline is None:
            return 0
        return max(1, math.ceil((self.deadline - self.recovery.now()) * 1_000))

    def posted(self) -> None:
        """Count an attempt."""
        self.phase = Phase.OPEN
        self.attempts += 1
        self.recovery.attempt_begun(self)

    def stop(self, reason: int) -> None:
        """Ask for an early end; before ACCEPT it is held back."""
        if self.phase is Phase.DONE or self.final is not None or self.killed is not None:
            return
        if self.stop_reason is not None:
            return
        self.stop_reason = reason
        if self.home is not None and self.home.conn is not None:
            self.home.conn.control(w.STOP, reason)

    def kill(self, verdict: Verdict, reason: int) -> None:
        """Give the request up: at once before ACCEPT, by KILL behind it."""
        if self.phase is Phase.DONE or self.final is not None or self.killed is not None:
            return
        code = verdict.code if verdict.code is not None else reason
        self.held.clear()
        home = self.home
        if home is None or self.phase is not Phase.OPEN:
            self.recovery.report(self, Verdict(Class.NOT_SENT, code, verdict.text))
        elif home.conn is None:
            if self.flaw("p0-kill-waits-for-hello"):
                return
            home.cancel()
            self.recovery.report(self, Verdict(Class.AMBIGUOUS, code, verdict.text))
        else:
            self.killed = Verdict(verdict.kind, code, verdict.text)
            home.kill(reason)

    def succeed(self, trailers: cw.Headers) -> None:
        """Report a success; it may be the one that the client waited for."""
        super().succeed(trailers)
        self.recovery.client.check_closed()

    def fail(self, verdict: Verdict) -> None:
        """Report a failure; it may be the one that the client waited for."""
        super().fail(verdict)
        self.recovery.client.check_closed()

    def pause(self) -> None:
        """Stop consuming, and reading."""
        super().pause()
        if self.home is not None and self.home.conn is not None:
            self.home.conn.pause(True)

    def resume(self) -> None:
        """Consume what waits, and go on."""
        super().resume()
        if self.home is not None and self.home.conn is not None:
            self.home.conn.pause(False)
        self.recovery.client.check_closed()


class HomeStream:
    """One attempt: its token, its POST, its connection."""

    def __init__(self, router: Router, call: HomeCall, addr: str) -> None:
        self.router = router
        self.flaw = router.flaw
        self.loop = router.loop
        self.call = call
        self.addr = addr
        self.rid = router.client.new_request_id(call)
        self.token = router.new_token(self.rid)
        self.conn: HomeConnection | None = None
        self.registered = False
        self.responded = False
        self.killed = False
        self.cancelled = False
        self.over = False
        self.dies_at: float | None = None
        self.life: asyncio.TimerHandle | None = None
        self.patience: asyncio.TimerHandle | None = None
        self.partial: bytearray | None = None
        self.complete = 0

    def consume(self) -> None:
        """Nothing: what is read was consumed, and credit there is none."""

    # HTTP -------------------------------------------------------------------------------------

    def posted(self) -> None:
        """Take note that the POST is on its way."""
        self.call.home = self
        self.call.addr = self.addr
        if self.call.phase is Phase.WAITING:
            self.call.posted()

    def answered(self, answer: Answer | None) -> None:
        """Take the answer, None if there is none."""
        if answer is not None and (answer.status == 202 or self._is_success(answer)):
            if not self.registered and not self.cancelled:
                self.registered = True
                self._begin_life()
            return
        decides = self.conn is None or self.flaw("p0-answer-decides-behind-accept")
        if self.over or self.cancelled or self.registered or self.responded or not decides:
            return
        if self.dies_at is not None:
            return  # it was accepted once and lost: another HELLO may come
        if answer is None:
            kind = Class.NOT_SENT if self.flaw("p0-no-answer-is-not-sent") else Class.AMBIGUOUS
            self._rule(Verdict(kind, None, "P0-019: no answer"))
            return
        kind = Class.NOT_PROCESSED if answer.not_processed else Class.AMBIGUOUS
        if self.flaw("p0-refusal-is-ambiguous"):
            kind = Class.AMBIGUOUS
        if answer.described and self.flaw("p0-any-error-object-is-not-processed"):
            kind = Class.NOT_PROCESSED
        if answer.status >= 500 and self.flaw("p0-any-5xx-is-not-processed"):
            kind = Class.NOT_PROCESSED
        self._rule(
            Verdict(
                kind,
                answer.code,
                f"status {answer.status}",
                local=False,
                retry_after_ms=answer.retry_after_ms,
                delay=answer.code != w.DRAINING,
            )
        )

    def _is_success(self, answer: Answer) -> bool:
        return 200 <= answer.status < 300 and self.flaw("p0-any-2xx-is-202")

    # The life of the token --------------------------------------------------------------------

    def _begin_life(self) -> None:
        if self.over or self.dies_at is not None or self.flaw("p0-token-lives-for-ever"):
            return
        life = TOKEN_LIFE / (2 if self.flaw("p0-token-dies-early") else 1)
        self.dies_at = self.loop.time() + life
        self.life = self.loop.call_later(life, self._died)

    def _died(self) -> None:
        if self.cancelled:
            self.forget()
        elif self.conn is None and not self.over:
            if self.flaw("p0-void-token-hangs"):
                self.forget()
                return
            self._rule(Verdict(Class.AMBIGUOUS, None, "P0-018: no HELLO in time"))

    def cancel(self) -> None:
        """Remember that the caller has gone, as long as a token lives."""
        self.cancelled = True
        if self.life is not None:
            self.life.cancel()
            self.life = None
        if self.flaw("p0-cancelled-is-forgotten"):
            self.forget()
        elif not self.flaw("p0-cancelled-is-remembered-for-ever"):
            self.life = self.loop.call_later(TOKEN_LIFE, self._died)

    def forget(self) -> None:
        """Drop everything."""
        self.over = True
        for timer in (self.life, self.patience):
            if timer is not None:
                timer.cancel()
        self.router.streams.pop(self.rid, None)
        if self.flaw("p0-token-is-reusable"):
            self.router.streams[self.rid] = self

    # The connection ---------------------------------------------------------------------------

    def bind(self, conn: HomeConnection) -> None:
        """Go on with a connection; the one before is closed and not read any more."""
        old, self.conn = self.conn, conn
        conn.accept(self)
        if old is not None:
            reads = self.flaw("p0-reads-the-superseded")
            old.stream = self if reads else None
            if not reads and not self.flaw("p0-keeps-the-superseded"):
                old.end("P0-019: superseded")
        if self.call.stop_reason is not None and not self.flaw("p0-forgets-early-stop"):
            conn.control(w.STOP, self.call.stop_reason)
        if self.call.paused:
            conn.pause(True)

    def kill(self, reason: int) -> None:
        """Send KILL and wait for the terminal, but not for ever."""
        self.killed = True
        if self.conn is not None and not self.flaw("p0-kill-is-silent"):
            self.conn.control(w.KILL, reason)
        late = reason == w.DEADLINE_EXCEEDED
        seconds = KILL_PATIENCE_DEADLINE if late else KILL_PATIENCE
        if not self.flaw("p0-kill-waits-for-ever"):
            self.patience = self.loop.call_later(seconds, self._impatient)

    def _impatient(self) -> None:
        conn = self.conn
        if conn is not None and not self.flaw("p0-kill-leaves-connection"):
            conn.end("P0-019: no terminal behind KILL")
        else:
            self.lost()

    def lost(self) -> None:
        """Take the end of the connection."""
        self.conn = None
        if self.over:
            return
        code = self.call.killed.code if self.call.killed is not None else None
        if self.responded:
            if self.flaw("p0-eof-is-success"):
                self.succeeded([])
                return
            kind = Class.AMBIGUOUS if self.flaw("p0-partial-is-ambiguous") else Class.PARTIAL
            self._rule(Verdict(kind, code, "P0-019: the connection ended"))
            return
        if self.killed:
            self._rule(Verdict(Class.AMBIGUOUS, code, "P0-019: the connection ended"))
            return
        if self.flaw("p0-early-loss-hangs"):
            self.forget()
            return
        alive = self.dies_at is None or self.loop.time() < self.dies_at
        if self.flaw("p0-early-loss-is-partial"):
            self._rule(Verdict(Class.PARTIAL, code, "P0-019: the connection ended"))
            return
        if not alive or self.flaw("p0-early-loss-is-final"):
            self._rule(Verdict(Class.AMBIGUOUS, code, "P0-019: the connection ended"))
            return
        self.registered = True
        self._begin_life()

    # The response -----------------------------------------------------------------------------

    def response(self, h: w.Head, headers: cw.Headers, data: bytes) -> None:
        """Take the content of a RESPONSE that is no error."""
        first, self.responded = not self.responded, True
        if self.killed:
            return
        end = bool(h.flags & w.END_STREAM)
        if h.flags & w.META and h.seq == 0:
            shown = [list(pair) for pair in headers]
            self.router.client.emit("headers", ref=self.call.ref, headers=shown)
        empty = not data and not h.flags & w.MORE and self.partial is None
        if empty and (end or (first and h.flags & w.META)):
            return
        self.partial = self.partial if self.partial is not None else bytearray()
        self.partial += data
        if len(self.partial) > MAX_MESSAGE:
            self.partial = None
            self.call.end_locally(w.MESSAGE_TOO_LARGE, "MSG-003: message too large")
        elif not h.flags & w.MORE:
            message, self.partial = bytes(self.partial), None
            self.complete += 1
            self.call.deliver(message)

    def succeeded(self, trailers: cw.Headers) -> None:
        """Take a success terminal; behind a KILL it is none."""
        self.conn = None
        if self.over:
            return
        self.forget()
        if self.call.killed is not None and not self.flaw("p0-killed-may-succeed"):
            self.router.client.recovery.terminal(self.call, self.call.killed)
        else:
            self.call.succeed(trailers)

    def failed(self, error: cw.ErrorBody) -> None:
        """Take an error terminal."""
        self.conn = None
        if self.over:
            return
        refused = error.flags & w.NOT_PROCESSED and not self.flaw("p0-refusing-terminal-failed")
        verdict = Verdict(
            Class.NOT_PROCESSED if refused else Class.FAILED,
            error.code,
            error.text,
            local=False,
            flags=error.flags,
            retry_after_ms=error.retry_after_ms,
            delay=error.code != w.DRAINING,
        )
        self.forget()
        self.router.client.recovery.terminal(self.call, verdict)

    def _rule(self, verdict: Verdict) -> None:
        self.conn = None
        self.forget()
        if self.call.phase is Phase.OPEN:
            self.call.stream = None
            if self.call.killed is not None:
                self.router.client.recovery.report(self.call, verdict)
            else:
                self.router.client.recovery.rule(self.call, verdict)


class Router:
    """The listener, the streams by their ids, and the POSTs."""

    def __init__(self, client: Client, idle_ms: int | None) -> None:
        self.client = client
        self.flaw = client.flaw
        self.loop = client.loop
        self.idle_ms = 60_000 if idle_ms is None else idle_ms
        self.announced = 0 if idle_ms is None or self.flaw("p0-announces-nothing") else idle_ms
        self.addrs: list[str] = []
        self.address = ""
        self.server: asyncio.Server | None = None
        self.connections: set[HomeConnection] = set()
        self.postings: set[Posting] = set()
        self.streams: dict[bytes, HomeStream] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.accepted = 0
        self.turn = 0
        self.tokens = 0
        self.waking = False
        self.empty = asyncio.Event()

    # Beginning --------------------------------------------------------------------------------

    def open(self, addrs: list[str], listen: str) -> None:
        """Listen, then say where."""
        self.addrs = addrs
        self._task(self._listen(listen))

    def _task(self, work: Any) -> None:
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _listen(self, listen: str) -> None:
        host, _colon, port = listen.rpartition(":")
        host = host.strip("[]")
        self.server = await self.loop.create_server(self._connection, host, int(port), backlog=256)
        bound = self.server.sockets[0].getsockname()[1]
        self.address = f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}"
        self.client.emit("listening", addr=self.address)
        self.dispatch_soon()

    def _connection(self) -> HomeConnection:
        self.accepted += 1
        return HomeConnection(self, self.accepted)

    def emit_disconnected(self, conn: HomeConnection) -> None:
        """Tell that a connection is gone."""
        self.client.emit(
            "disconnected",
            conn=conn.number,
            addr=conn.addr,
            handshake=conn.greeted,
            by=conn.by,
            code=None,
            reason=conn.reason,
        )

    # Streams ----------------------------------------------------------------------------------

    def new_token(self, rid: bytes) -> bytes:
        """Make a token (P0-018)."""
        self.tokens += 1
        if self.flaw("p0-token-counts"):
            return self.tokens.to_bytes(16, "big")
        if self.flaw("p0-token-is-a-uuid"):
            return uuid.uuid4().bytes
        if self.flaw("p0-token-is-the-id"):
            return rid
        if self.flaw("p0-one-token-for-all"):
            return b"0123456789abcdef"
        return secrets.token_bytes(16)

    def hello(self, conn: HomeConnection, rid: bytes, token: bytes) -> None:
        """Match a HELLO to its stream (P0-018, P0-019)."""
        stream = self._find(rid, token)
        code = w.NOT_FOUND if stream is None else self._refusal(stream)
        if stream is None or code:
            conn.reject(rid, code)
        else:
            stream.bind(conn)

    def _find(self, rid: bytes, token: bytes) -> HomeStream | None:
        """Return the stream of an id, if this is its token."""
        stream = self.streams.get(rid)
        tokens = {one.token: one for one in self.streams.values()}
        if stream is None:
            return tokens.get(token) if self.flaw("p0-looks-at-the-token-only") else None
        if hmac.compare_digest(stream.token, token):
            return stream
        close = (
            self.flaw("p0-accepts-any-token")
            or (stream.token[:8] == token[:8] and self.flaw("p0-compares-half-a-token"))
            or (token in tokens and self.flaw("p0-accepts-token-of-another-stream"))
        )
        return stream if close else None

    def _refusal(self, stream: HomeStream) -> int:
        """Return the code with which a HELLO with the right token is refused, 0 for none."""
        if stream.cancelled:
            return w.CANCELLED
        if stream.over:  # only a flawed router remembers it
            return 0
        if stream.killed:
            return w.NOT_FOUND
        if stream.responded and not self.flaw("p0-supersedes-behind-response"):
            return w.NOT_FOUND
        if not stream.registered and self.flaw("p0-hello-needs-202"):
            return w.NOT_FOUND
        if stream.conn is not None and self.flaw("p0-no-superseding"):
            return w.NOT_FOUND
        return 0

    # Posting, in the place of the pool --------------------------------------------------------

    def dispatch_soon(self) -> None:
        """Post what waits in the next turn of the loop."""
        if not self.waking:
            self.waking = True
            self.loop.call_soon(self.pump)

    def pump(self) -> None:
        """Post everything that waits."""
        self.waking = False
        if not self.address:
            return
        waiting = self.client.recovery.waiting
        while waiting:
            call = waiting.popleft()
            self._task(self._send(call))

    async def _send(self, call: Any) -> None:
        delay = 0.01
        while call.phase is Phase.WAITING and not self.client.closing:
            addr = self.addrs[self.turn % len(self.addrs)]
            self.turn += 1
            if await self._posted(call, addr):
                return
            if self.flaw("p0-refused-dial-is-ambiguous"):
                self.client.recovery.report(call, Verdict(Class.AMBIGUOUS))
                return
            await asyncio.sleep(random.uniform(0, delay))
            delay = min(delay * 2, 0.2)

    async def _posted(self, call: HomeCall, addr: str) -> bool:
        host, port = split_address(addr)
        stream = HomeStream(self, call, addr)
        self.streams[stream.rid] = stream
        try:
            await self.loop.create_connection(
                lambda: Posting(self, stream, ROOT + call.subject), host, port
            )
        except OSError:
            self.streams.pop(stream.rid, None)
            return False
        return True

    def post(self, stream: HomeStream, path: str) -> None:
        """Post the same again elsewhere, which no sound router does."""
        host, port = split_address(stream.addr)
        self._task(self._post_again(stream, path, host, port))

    async def _post_again(self, stream: HomeStream, path: str, host: str, port: int) -> None:
        await self.loop.create_connection(lambda: Posting(self, stream, path), host, port)

    def addresses(self) -> set[str]:
        """Return the addresses of all workers."""
        return set(self.addrs)

    # The end ----------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Tell whether a request is not over."""
        calls = self.client.recovery.calls.values()
        return any(call.phase is not Phase.DONE for call in calls)

    def leave(self) -> None:
        """Close everything, if the last request is over."""
        if self.running:
            return
        if self.server is not None:
            self.server.close()
        for conn in list(self.connections):
            conn.end("the router closes")

    def busy(self) -> bool:
        """Tell whether a request runs or a connection is open."""
        if self.running:
            return True
        if self.client.closing:
            self.leave()
        return bool(self.connections)

    async def abort(self) -> None:
        """End everything at once, and wait until it has ended."""
        tasks = set(self.tasks)
        for task in tasks:
            task.cancel()
        if self.server is not None:
            self.server.close()
        for stream in list(self.streams.values()):
            stream.forget()
        self.streams.clear()
        for posting in list(self.postings):
            if posting.timer is not None:
                posting.timer.cancel()
            posting.transport.abort()
        for conn in list(self.connections):
            conn.end("the router stops")
            conn.transport.abort()
        if tasks:
            await asyncio.wait(tasks)
        if self.connections or self.postings:
            await self.empty.wait()

    def gone(self) -> None:
        """Take note that a connection of either kind is gone."""
        if self.connections or self.postings:
            self.empty.clear()
        else:
            self.empty.set()
        self.client.check_closed()
