"""Both cores against each other over a simulated network, with everything in any order.

Hypothesis chooses the settings, the network and what the applications do.  After every step, and
before time moves, the invariants of `SimLink` and the rules of `Watch` hold.  In the end every
request has had exactly one outcome, and slots, credit and memory are back at their start.
"""

from __future__ import annotations

from typing import Any, TypeVar

from core_harness import config
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from muxwire.core import Config
from muxwire.errors import ConnectionClosed, InvalidArgument, MessageTooLarge
from sim_link import Ask, Job, Path, SimLink, changed
from sim_watch import CLIENT, WORKER

BODY = bytes(range(251)) * 4_400
LIMITS: dict[str, dict[str, int]] = {
    "floor": {
        "max_frame_size": 16_384,
        "max_concurrent_requests": 100,
        "initial_stream_window": 65_536,
        "connection_window": 1 << 20,
        "max_metadata_size": 8_192,
        "max_message_size": 1 << 20,
    },
    "narrow": {
        "max_frame_size": 1 << 18,
        "max_concurrent_requests": 100,
        "initial_stream_window": 1 << 20,
        "connection_window": 1 << 20,
    },
    "crossed": {
        "max_frame_size": 1 << 18,
        "max_concurrent_requests": 100,
        "initial_stream_window": 65_536,
        "connection_window": 1 << 20,
    },
    "large": {
        "max_frame_size": 1 << 20,
        "max_concurrent_requests": 1_000,
        "initial_stream_window": 1 << 22,
        "connection_window": 1 << 26,
        "max_metadata_size": 65_536,
    },
    "recommended": {},
}
IDLE = [100, 400, 3_000, 60_000]
PLANS = [
    b"manual", b"manual", b"manual", b"echo", b"once", b"refuse", b"stubborn", b"careless",
    b"stalled",
]  # fmt: skip
SIZES = st.one_of(
    st.integers(0, 64),
    st.integers(0, 20_000),
    st.sampled_from(
        [16_351, 16_352, 16_384, 65_472, 65_504, 65_505, 65_536, 100_000, 300_000, 700_000]
    ),
    st.sampled_from([1 << 20, (1 << 20) + 1]),
)
HEADERS: dict[str, list[tuple[bytes, bytes]]] = {
    "none": [],
    "one": [(b"k", b"v")],
    "odd": [(b"k", b""), (b"other.key", "v\u00e4lue".encode())],
    "long": [(b"a", b"x" * 8_000)],
    "longest": [(b"b%d" % n, b"x" * 8_192) for n in range(3)],
}
PATHS = st.builds(
    Path,
    latency=st.sampled_from([0.0, 0.005, 0.02]),  # of the shortest idle timeout
    capacity=st.sampled_from([8_192, 65_536, 1 << 20]),
    chops=st.sampled_from(
        [(1 << 20,), (1, 15, 16, 17, 31, 32, 33, 64, 4_096, 65_536), (1_400,), (1, 70_000)]
    ),
    high=st.sampled_from([1, 4_096, 1 << 17]),
    lazy=st.booleans(),
)
PICK = st.integers(0, 1 << 16)
FAULTS = [
    "cut", "client crashes", "worker crashes", "silence up", "silence down",
    "drain", "drain now", "drain after", "leave", "close",
]  # fmt: skip
SILENT = {"HBT-003", "HBT-006", "FRM-013", "HSK-008"}


class Machine(RuleBasedStateMachine):
    """Anything the applications, the drivers and the network can do."""

    def __init__(self) -> None:
        super().__init__()
        self.fault = ""
        self.age = 0

    @initialize(
        client=st.sampled_from(sorted(LIMITS)),
        worker=st.sampled_from(sorted(LIMITS)),
        idles=st.tuples(st.sampled_from(IDLE), st.sampled_from(IDLE)),
        up=PATHS,
        down=PATHS,
        send_buffer=st.sampled_from([1_000, 262_144]),
        slow_consumer=st.sampled_from([1.5, 60.0]),
        fault_at=st.sampled_from([0, 5, 15, 1_000, 1_000]),
        ending=st.sampled_from(["finish", "finish", "kill", "drain", "leave"]),
    )
    def begin(
        self,
        client: str,
        worker: str,
        idles: tuple[int, int],
        up: Path,
        down: Path,
        send_buffer: int,
        slow_consumer: float,
        fault_at: int,
        ending: str,
    ) -> None:
        self.moment = min(2.0, min(idles) / 1_000)
        self.calm_at = 0.0
        self.fault_at = fault_at
        self.ending = ending
        more: dict[str, Any] = {"send_buffer": send_buffer, "slow_consumer": slow_consumer}
        self.link = SimLink(
            client=_config(client, idles[0], more),
            worker=_config(worker, idles[1], more),
            up=self.scaled(up),
            down=self.scaled(down),
        )
        self.link.on_pause = self.pause

    def scaled(self, path: Path) -> Path:
        """Make a latency that the idle timeouts allow."""
        return changed(path, latency=path.latency * self.moment)

    def pause(self, to: float) -> None:
        self.link.check_signs_of_life(to)
        self.link.check_flow()

    # -- picks

    def pick_ask(self, number: int) -> Ask | None:
        asks = [ask for ask in self.link.caller.asks.values() if ask.open]
        return _pick(asks, number)

    def pick_job(self, number: int) -> Job | None:
        jobs = list(self.link.server.running.values())
        return _pick(jobs, number)

    # -- the application at the client

    @rule(
        size=st.one_of(st.none(), SIZES),
        end=st.booleans(),
        plan=st.sampled_from(PLANS),
        headers=st.sampled_from(sorted(HEADERS)),
        timeout_ms=st.sampled_from([0, 0, 0, 1, 300, 2_000, 2**32 - 1]),
        hungry=st.booleans(),
    )
    def ask(
        self,
        size: int | None,
        end: bool,
        plan: bytes,
        headers: str,
        timeout_ms: int,
        hungry: bool,
    ) -> None:
        client = self.link.client
        try:
            self.link.caller.ask(
                self.link.now,
                data=None if size is None else BODY[:size],
                end=end,
                plan=plan,
                headers=HEADERS[headers],
                timeout_ms=timeout_ms,
                hungry=hungry,
            )
        except ConnectionClosed:
            assert self.fault
        except MessageTooLarge:
            assert size is not None
            assert size > client.peer.max_message_size
        except InvalidArgument:
            assert (
                sum(len(value) for _, value in HEADERS[headers]) + 300
                > client.peer.max_metadata_size
            )
        self.link.touch()

    @rule(count=st.integers(2, 120), plan=st.sampled_from(PLANS), corked=st.booleans())
    def ask_many(self, count: int, plan: bytes, corked: bool) -> None:
        self.link.ends[CLIENT].corked = corked
        if self.link.client.accepting:
            for number in range(count):
                self.link.caller.ask(self.link.now, data=BODY[:number], plan=plan)
        self.link.touch()

    @rule(number=PICK, size=SIZES, end=st.booleans())
    def say(self, number: int, size: int, end: bool) -> None:
        if ask := self.pick_ask(number):
            self.link.caller.say(ask, BODY[:size], end=end)
            self.link.touch()

    @rule(number=PICK)
    def end_ask(self, number: int) -> None:
        if ask := self.pick_ask(number):
            self.link.caller.end(ask)
            self.link.touch()

    @rule(number=PICK, kill=st.booleans(), corked=st.booleans())
    def cancel(self, number: int, kill: bool, corked: bool) -> None:
        if ask := self.pick_ask(number):
            self.link.ends[CLIENT].corked = corked
            (self.link.caller.kill if kill else self.link.caller.stop)(ask)
            self.link.touch()

    @rule(number=PICK)
    def ask_and_cancel(self, number: int) -> None:
        """Open, stop and kill a request in one breath (STM-005)."""
        caller = self.link.caller
        if self.link.client.accepting:
            self.link.ends[CLIENT].corked = True
            ask = caller.ask(self.link.now, data=BODY[: number % 100])
            if number & 1:
                caller.stop(ask)
            if number & 2:  # the OPEN has left the core, and the KILL follows at once
                self.link.ends[CLIENT].corked = False
                self.link.ends[CLIENT].turn(self.link.now)
            caller.kill(ask)
            self.link.touch()

    @rule(number=PICK, hungry=st.booleans())
    def feed_ask(self, number: int, hungry: bool) -> None:
        if ask := _pick(list(self.link.caller.asks.values()), number):
            self.link.caller.feed(ask, hungry)
            self.link.touch()

    @rule(number=PICK)
    def take_one(self, number: int) -> None:
        if ask := _pick([ask for ask in self.link.caller.asks.values() if ask.debts], number):
            self.link.caller.take(ask)
        if job := _pick([job for job in self.link.server.running.values() if job.debts], number):
            self.link.server.take(job)
        self.link.touch()

    # -- the application at the worker

    @rule(number=PICK, size=SIZES, count=st.integers(1, 5), corked=st.booleans())
    def answer(self, number: int, size: int, count: int, corked: bool) -> None:
        if job := self.pick_job(number):
            self.link.ends[WORKER].corked = corked
            for _ in range(count):
                self.link.server.say(job, BODY[:size])
            self.link.touch()

    @rule(number=PICK, headers=st.sampled_from(sorted(HEADERS)))
    def head(self, number: int, headers: str) -> None:
        if job := self.pick_job(number):
            self.link.server.head(job, HEADERS[headers])
            self.link.touch()

    @rule(number=PICK, trailers=st.sampled_from(sorted(HEADERS)), corked=st.booleans())
    def finish(self, number: int, trailers: str, corked: bool) -> None:
        if job := self.pick_job(number):
            self.link.ends[WORKER].corked = corked
            self.link.server.finish(job, HEADERS[trailers])
            self.link.touch()

    @rule(number=PICK)
    def fail(self, number: int) -> None:
        if job := self.pick_job(number):
            self.link.server.fail(job, 0x107)
            self.link.touch()

    @rule(number=PICK, hungry=st.booleans())
    def feed_job(self, number: int, hungry: bool) -> None:
        if job := self.pick_job(number):
            self.link.server.feed(job, hungry)
            self.link.touch()

    @rule(number=PICK)
    def let_go(self, number: int) -> None:
        if job := self.pick_job(number):
            self.link.server.let_go(job)
            self.link.touch()

    # -- the network and the machines

    @rule(share=st.sampled_from([0.0, 0.01, 0.3, 1.0, 2.5]))
    def elapse(self, share: float) -> None:
        self.link.run(share * self.moment)

    @rule(seconds=st.sampled_from([0.3, 1.0, 3.0]))
    def elapse_long(self, seconds: float) -> None:
        self.link.run(seconds)

    @rule(
        side=st.sampled_from([CLIENT, WORKER]),
        share=st.sampled_from([0.05, 0.25]),
        freeze=st.booleans(),
    )
    @precondition(lambda self: self.link.now >= self.calm_at)
    def disturb(self, side: int, share: float, freeze: bool) -> None:
        """Hold something up for less than the peers have to tolerate."""
        seconds = share * self.moment
        self.calm_at = self.link.now + seconds + self.moment
        if freeze:
            self.link.freeze(side, seconds)
        else:
            self.link.stall(side, seconds)

    @rule(side=st.sampled_from([CLIENT, WORKER]), path=PATHS)
    def reroute(self, side: int, path: Path) -> None:
        self.link.ends[side].out.use(self.scaled(path))

    @rule()
    def calm(self) -> None:
        """Let everything arrive and be consumed: no credit may be missing."""
        link = self.link
        if not self.fault:
            link.settle(self.moment, 60.0)
            link.check_stalled()
        for ask in link.caller.asks.values():
            link.caller.feed(ask, hungry=True)
        link.settle(max(0.5, self.moment), 60.0)
        # A request that waited for a place may begin meanwhile, with a handler that takes nothing.
        while sated := [job for job in link.server.jobs.values() if not job.hungry]:
            for job in sated:
                link.server.feed(job, hungry=True)
            link.settle(max(0.5, self.moment), 60.0)
        if not self.fault:
            link.check_credit()

    @rule(kind=st.sampled_from(FAULTS))
    @precondition(lambda self: not self.fault and self.age >= self.fault_at)
    def break_off(self, kind: str) -> None:
        link = self.link
        self.fault = kind
        match kind:
            case "cut":
                link.cut()
            case "client crashes":
                link.crash(CLIENT)
            case "worker crashes":
                link.crash(WORKER)
            case "silence up":
                link.stall(CLIENT, 1e9)
            case "silence down":
                link.stall(WORKER, 1e9)
            case "drain":
                link.worker.drain(700, link.now)
            case "drain now":
                link.worker.drain(0, link.now)
            case "drain after":
                job = self.pick_job(0)
                link.worker.drain(700, link.now, after=job.request_id if job else None)
            case "leave":
                link.client.goaway()
            case "close":
                link.client.close(link.now)
        link.touch()

    # -- what holds

    @invariant()
    def holds(self) -> None:
        self.age += 1
        link = getattr(self, "link", None)
        if link is None:
            return
        link.check_content()
        link.check_promptness()
        link.check_deadlines(slack=self.moment)
        running = len(link.server.running)
        assert link.statistics.active == running
        assert running <= link.worker.config.settings.max_concurrent_requests
        allowed = SILENT if self.fault.startswith("silence") else set()
        for end in (link.caller.ended, link.server.ended):
            if end is not None:
                assert self.fault, f"a connection error between correct peers: {end}"
                assert end.requirement in {"", "CLS-006"} | allowed, end

    def teardown(self) -> None:
        if not hasattr(self, "link"):
            return
        link = self.link
        for station in link.ends:
            station.frozen_until = min(station.frozen_until, link.now + self.moment)
        self.wind_up()
        self.holds()
        if not self.fault:
            link.check_rest()
            link.check_credit()
            link.check_flow()
            self.fault = "leave"
            link.client.goaway()
            link.run(4.0)
            self.holds()
        assert link.over()
        for job in list(link.server.running.values()):
            link.server.let_go(job)
        link.check_rest()
        assert not link.server.running

    def wind_up(self) -> None:
        """Let everything come to its end."""
        link, ending = self.link, self.ending
        if self.fault:
            ending = "leave" if self.fault == "leave" else "finish"
        elif ending in ("drain", "leave"):
            self.break_off(ending)
        if ending == "kill":
            for ask in link.caller.asks.values():
                link.caller.kill(ask)
            link.run(1.0 + 2 * self.moment)
            assert all(not ask.open for ask in link.caller.asks.values())
        if ending == "drain":
            link.run(2.0 + 3 * self.moment)
            assert link.worker.close_action
        for ask in list(link.caller.asks.values()):
            link.caller.feed(ask, hungry=True)
        for _ in range(100):
            if not link.server.running and not link.client.open_requests:
                break
            for job in list(link.server.running.values()):
                link.server.feed(job, hungry=True)
                link.server.let_go(job)
                link.server.finish(job)
            link.run(1.0)
        link.settle(1.0, 120.0)
        if self.fault.startswith("silence"):
            link.run(65.0)
        elif self.fault:
            link.run(2.5)


T = TypeVar("T")


def _pick(choice: list[T], number: int) -> T | None:
    """Pick one, the newest in every other case, so that things happen to the same request."""
    if not choice:
        return None
    return choice[-1] if number & 1 else choice[number // 2 % len(choice)]


def _config(limits: str, idle: int, more: dict[str, Any]) -> Config:
    return config(**LIMITS[limits], idle_timeout_ms=idle, **more)


def test_two_cores_over_any_network() -> None:
    run_state_machine_as_test(Machine, settings=settings(max_examples=300, stateful_step_count=50))
