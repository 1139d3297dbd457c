"""Every conformance subject of chapter 19, octet by octet, and every malformed parameter."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import muxwire
import pytest
from io_harness import connect_once, connected, drained, until
from muxwire import Outcome
from muxwire.conformance_subjects import subjects

NAMES = ["echo", "generate", "sleep", "fail", "sink", "source", "headers", "stats", "info", "drain"]


@asynccontextmanager
async def offering(**options: Any) -> AsyncIterator[tuple[muxwire.Client, muxwire.Worker]]:
    async with connected(conformance=True, **options) as pair:
        yield pair


async def read(
    client: muxwire.Client, name: str, parameters: dict[str, Any] | bytes, **options: Any
) -> list[bytes]:
    data = parameters if isinstance(parameters, bytes) else json.dumps(parameters).encode()
    stream = client.stream(f"conformance.{name}", data, **options)
    return [message async for message in stream]


async def stats(client: muxwire.Client, parameters: bytes = b"") -> dict[str, Any]:
    answer = json.loads(await client.call("conformance.stats", parameters))
    assert isinstance(answer, dict)
    return answer


async def test_there_are_ten_and_they_are_off_by_default() -> None:
    offered = set(subjects(muxwire.Worker({})))
    assert offered == {f"conformance.{name}" for name in NAMES}
    async with connected() as (client, _):
        for name in NAMES:
            with pytest.raises(muxwire.NotFound):
                await client.call(f"conformance.{name}", b"{}")


# -- malformed parameters --------------------------------------------------------------------------

OBJECTS = [b"{", b"[]", b"null", b"1", b'"{}"', b"\xff", b"{}{}", b"\xef\xbb\xbf{}", b"{'a': 1}"]
OBJECTS += [b'{"x": NaN}', b'{"x": -Infinity}', "{}".encode("utf-16"), b"[" * 100_000, b" "]
OBJECTS += [b'{"x": ' + b"9" * 5_000 + b"}"]


@pytest.mark.parametrize("name", ["generate", "sleep", "fail", "sink", "source", "stats", "drain"])
async def test_parameters_that_are_no_json_object_are_refused(name: str) -> None:
    async with offering() as (client, worker):
        for parameters in OBJECTS:
            with pytest.raises(muxwire.RequestRejected) as caught:
                await read(client, name, parameters)
            assert caught.value.outcome is Outcome.FAILED  # the handler has run
            assert caught.value.messages == 0
        assert worker.statistics.active == 0


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("generate", {}),
        ("generate", {"size": 16}),
        ("generate", {"count": None}),
        ("generate", {"count": -1}),
        ("generate", {"count": 1.0}),
        ("generate", {"count": "1"}),
        ("generate", {"count": True}),
        ("generate", {"count": [1]}),
        ("generate", {"count": 2**64}),
        ("generate", {"count": 1, "size": 7}),
        ("generate", {"count": 1, "size": 8.0}),
        ("generate", {"count": 1, "size": 2**40}),
        ("generate", {"count": 1, "interval_ms": -1}),
        ("generate", {"count": 1, "interval_ms": 0.5}),
        ("generate", {"count": 1, "ignore_stop": 1}),
        ("generate", {"count": 1, "ignore_stop": None}),
        ("sleep", {}),
        ("sleep", {"ms": -1}),
        ("sleep", {"ms": 2**32}),
        ("sleep", {"ms": 1, "ignore_kill_ms": -1}),
        ("sleep", {"ms": 1, "ignore_kill_ms": "1"}),
        ("fail", {"code": "NOT_FOUND"}),
        ("fail", {"code": -1}),
        ("fail", {"code": 2**32}),
        ("fail", {"after": -1}),
        ("fail", {"after": 1, "flags": -1}),
        ("fail", {"after": 1, "flags": 2**16}),
        ("fail", {"after": 1, "message": 1}),
        ("fail", {"after": 1, "message": None}),
        ("fail", {"after": 1, "panic": "yes"}),
        ("sink", {"stall": 0}),
        ("sink", {"bps": -1}),
        ("sink", {"bps": 1.5}),
        ("sink", {"bps": True}),
        ("source", {}),
        ("source", {"messages": 1}),
        ("source", {"bytes": -1}),
        ("source", {"bytes": 2**60}),
        ("source", {"bytes": 1, "messages": -1}),
        ("source", {"bytes": 1, "messages": "1"}),
        ("stats", {"reset_peak": 1}),
        ("drain", {}),
        ("drain", {"grace_ms": -1}),
        ("drain", {"grace_ms": 2**32}),
        ("drain", {"grace_ms": "1"}),
    ],
)
async def test_a_malformed_parameter_is_refused_before_anything_else(
    name: str, parameters: dict[str, Any]
) -> None:
    async with offering() as (client, _):
        with pytest.raises(muxwire.RequestRejected) as caught:
            await read(client, name, parameters)
        assert caught.value.messages == 0
        assert not caught.value.not_processed
        assert client.accepting


async def test_members_that_are_not_listed_are_ignored() -> None:
    async with offering() as (client, _):
        for name, parameters in [
            ("generate", {"count": 0}),
            ("sleep", {"ms": 0}),
            ("source", {"bytes": 0}),
            ("sink", {}),
        ]:
            await read(client, name, {**parameters, "x": {"y": [None]}, "count ": 1})


@pytest.mark.parametrize("name", ["sink", "stats"])
async def test_no_message_and_an_empty_one_mean_no_parameters(name: str) -> None:
    async with offering() as (client, _):
        assert len(await read(client, name, b"")) == 1
        stream = client.stream(f"conformance.{name}", None, end=True)
        assert len([message async for message in stream]) == 1


# -- the subjects ----------------------------------------------------------------------------------


async def test_echo_gives_every_message_back() -> None:
    sent = [b"{", b"", bytes(range(256)) * 3_000, b"\xff", b""]
    async with offering() as (client, _):
        stream = client.stream("conformance.echo")
        await stream.send_all(sent)
        assert [message async for message in stream] == sent
        stream = client.stream("conformance.echo", None, end=True)
        assert [message async for message in stream] == []


async def test_generate_numbers_its_messages() -> None:
    async with offering() as (client, _):
        for size in (8, 16, 263, 264, 265, 5_000):
            messages = await read(client, "generate", {"count": 600, "size": size})
            assert len(messages) == 600
            for index in (0, 1, 254, 255, 256, 599):
                ramp = bytes((index + j) % 256 for j in range(size - 8))
                assert messages[index] == index.to_bytes(8, "big") + ramp
        assert await read(client, "generate", {"count": 0}) == []
        (one,) = await read(client, "generate", {"count": 1, "interval_ms": 60_000})
        assert len(one) == 16


async def test_generate_acts_on_its_first_message() -> None:
    async with offering() as (client, _):
        stream = client.stream("conformance.generate", b'{"count": 2}', end=False)
        assert len([message async for message in stream]) == 2


@pytest.mark.parametrize("interval_ms", [0, 60_000])
async def test_generate_ends_early_and_well_on_a_stop(interval_ms: int) -> None:
    parameters = json.dumps({"count": 2**63, "interval_ms": interval_ms}).encode()
    async with offering() as (client, worker):
        stream = client.stream("conformance.generate", parameters)
        await anext(stream)
        stream.stop()
        messages, error = await drained(stream)
        assert error is None
        assert len(messages) < 100_000
        assert worker.statistics.cancelled == 0


async def test_generate_can_ignore_a_stop() -> None:
    parameters = b'{"count": 2000, "size": 1000, "ignore_stop": true}'
    async with offering() as (client, _):
        stream = client.stream("conformance.generate", parameters)
        await anext(stream)
        stream.stop()
        assert len([message async for message in stream]) == 1_999


async def test_generate_lets_others_run() -> None:
    async with offering() as (client, _):
        stream = client.stream("conformance.generate", b'{"count": 1000000000}')
        for _ in range(20):
            await anext(stream)
            assert await client.call("conformance.echo", b"hi") == b"hi"
        await stream.aclose()


async def test_sleep_answers_ok() -> None:
    async with offering() as (client, _):
        loop = asyncio.get_running_loop()
        start = loop.time()
        assert await read(client, "sleep", {"ms": 30}) == [b"ok"]
        assert loop.time() - start >= 0.029
        assert await read(client, "sleep", {"ms": 0, "ignore_kill_ms": 5_000}) == [b"ok"]


async def test_sleep_takes_the_longest_times() -> None:
    async with offering() as (client, worker):
        stream = client.stream(
            "conformance.sleep", b'{"ms": 4294967295}', timeout=4_294_967.295, end=False
        )
        await until(lambda: worker.statistics.active)
        assert await client.call("conformance.echo", b"hi") == b"hi"
        stream.kill()
        with pytest.raises(muxwire.RequestCancelled):
            await anext(stream)
        await until(lambda: not worker.statistics.active)


@pytest.mark.parametrize(
    ("parameters", "longest"),
    [({"ms": 60_000, "ignore_kill_ms": 30}, 2.0), ({"ms": 40, "ignore_kill_ms": 60_000}, 2.0)],
)
async def test_sleep_can_refuse_to_be_killed(parameters: dict[str, int], longest: float) -> None:
    async with offering() as (client, worker):
        loop = asyncio.get_running_loop()
        stream = client.stream("conformance.sleep", json.dumps(parameters).encode())
        await until(lambda: worker.statistics.active)
        start = loop.time()
        stream.kill()
        with pytest.raises(muxwire.RequestCancelled):
            await anext(stream)
        await until(lambda: not worker.statistics.active)
        assert 0.02 <= loop.time() - start <= longest


async def test_fail_fails_as_it_is_told() -> None:
    async with offering() as (client, _):
        for after in (0, 3):
            parameters = {"code": 0x104, "after": after, "flags": 3, "message": "told to"}
            messages, error = await drained(
                client.stream("conformance.fail", json.dumps(parameters).encode())
            )
            assert messages == [index.to_bytes(8, "big") for index in range(after)]
            assert isinstance(error, muxwire.Overloaded)
            assert (error.message, error.non_retryable) == ("told to", True)
            assert error.outcome is Outcome.FAILED  # NOT_PROCESSED is masked
        _, error = await drained(client.stream("conformance.fail", b""))
        assert error is not None
        assert (error.code, error.non_retryable) == (263, False)
        _, error = await drained(client.stream("conformance.fail", b'{"flags": 1}'))
        assert error is not None
        assert not error.not_processed
        _, error = await drained(client.stream("conformance.fail", b'{"code": 4294967295}'))
        assert error is not None
        assert error.code == 2**32 - 1


async def test_fail_can_panic_and_says_nothing_of_it(caplog: pytest.LogCaptureFixture) -> None:
    async with offering() as (client, _):
        messages, error = await drained(
            client.stream("conformance.fail", b'{"panic": true, "after": 2, "message": "m"}')
        )
        assert len(messages) == 2
        assert isinstance(error, muxwire.ApplicationError)
        assert error.message == "the handler failed"
        assert "asked to panic" in caplog.text


async def test_sink_counts_and_sums_what_follows() -> None:
    data = [b"", b"abc", bytes(300_000), b"\xff" * 7]
    async with offering() as (client, _):
        for opened in (b"{}", b"", None):
            stream = client.stream("conformance.sink", opened, end=False)
            await stream.send_all(data if opened is not None else [b"{}", *data])
            (answer,) = [message async for message in stream]
            assert json.loads(answer) == {
                "messages": 4,
                "bytes": 300_010,
                "crc32": zlib.crc32(b"".join(data)),
            }
        (answer,) = await read(client, "sink", {})
        assert json.loads(answer) == {"messages": 0, "bytes": 0, "crc32": 0}


async def test_sink_can_be_slow() -> None:
    async with offering() as (client, _):
        loop = asyncio.get_running_loop()
        start = loop.time()
        stream = client.stream("conformance.sink", b'{"bps": 10000}', end=False)
        await stream.send_all([bytes(200), bytes(200)])
        await anext(stream)
        assert loop.time() - start >= 0.039


async def test_a_stalled_sink_takes_nothing_and_never_answers() -> None:
    async with offering() as (client, worker):
        stream = client.stream("conformance.sink", b'{"stall": true}', end=False)
        await stream.send(bytes(1_000), end=True)
        await until(lambda: worker.buffered_bytes() == 1_032)
        assert await client.call("conformance.echo", b"hi") == b"hi"
        assert worker.buffered_bytes() == 1_032
        await stream.aclose()
        await until(lambda: worker.buffered_bytes() == 0)


async def test_source_makes_large_messages_of_known_octets() -> None:
    async with offering() as (client, _):
        for size in (0, 1, 255, 256, 257, 1_000_000):
            expected = (bytes((31 * k + 7) % 256 for k in range(256)) * (size // 256 + 1))[:size]
            assert await read(client, "source", {"bytes": size, "messages": 2}) == [expected] * 2
        assert await read(client, "source", {"bytes": 1, "messages": 0}) == []
        assert await read(client, "source", {"bytes": 3}) == [bytes([7, 38, 69])]


async def test_headers_tells_what_the_request_said() -> None:
    async with offering() as (client, _):
        stream = client.stream(
            "conformance.headers",
            b"ignored",
            headers=[("b", "2"), ("a", "\u00e4"), ("request-id", "mine")],
            timeout=2,
            idempotent=True,
        )
        assert await stream.headers() == [("content-type", "application/json")]
        (answer,) = [message async for message in stream]
        assert json.loads(answer) == {
            "headers": [["b", "2"], ["a", "\u00e4"], ["request-id", "mine"]],
            "subject": "conformance.headers",
            "timeout_ms": 2_000,
            "request_flags": 1,
        }
        assert [key for key, _ in stream.trailers] == ["usage"]


async def test_stats_counts_every_handler_but_its_own() -> None:
    async with offering() as (client, worker):
        before = await stats(client)
        assert set(before) == {
            "active",
            "peak",
            "opened",
            "cancelled",
            "connections",
            "buffered_bytes",
            "rss_bytes",
            "cpu_ms",
        }
        assert all(isinstance(value, int) for value in before.values())
        assert (before["active"], before["peak"], before["opened"]) == (0, 0, 0)
        assert before["connections"] == 1
        assert before["rss_bytes"] > 1_000_000
        streams = [client.stream("conformance.sleep", b'{"ms": 60000}') for _ in range(3)]
        await until(lambda: worker.statistics.active == 3)
        streams[0].kill()
        await until(lambda: worker.statistics.active == 2)
        now = await stats(client, b'{"reset_peak": true}')
        assert (now["active"], now["peak"], now["opened"], now["cancelled"]) == (2, 3, 3, 1)
        assert (await stats(client))["peak"] == 2
        async with connect_once(worker.addresses[0]):
            assert (await stats(client))["connections"] == 2
        for stream in streams:
            await stream.aclose()


async def test_info_names_the_build_and_the_process() -> None:
    config = muxwire.Config(handshake_timeout=2.5, drain_grace=7.0, slow_consumer=8.0)
    worker = muxwire.Worker({}, config=config, max_connections=5, conformance=True)
    async with worker, connect_once(worker.addresses[0]) as client:
        info = json.loads(await client.call("conformance.info"))
        nonce = info.pop("nonce")
        assert info == {
            "name": "muxwire",
            "version": muxwire.__version__,
            "handshake_timeout_ms": 2_500,
            "max_connections": 5,
            "drain_grace_ms": 7_000,
            "slow_consumer_ms": 8_000,
            "transports": ["tcp"],
            "ports": {"tcp": int(worker.addresses[0].rpartition(":")[2])},
        }
        again = json.loads(await client.call("conformance.info"))
        assert again["nonce"] == nonce
    async with offering() as (client, _):
        assert json.loads(await client.call("conformance.info"))["nonce"] != nonce


async def test_drain_ends_this_connection_behind_its_answer() -> None:
    async with offering() as (client, worker):
        running = client.stream("conformance.sleep", b'{"ms": 60000}')
        await until(lambda: worker.statistics.active == 1)
        async with connect_once(worker.addresses[0]) as other:
            assert await read(client, "drain", {"grace_ms": 20}) == [b"ok"]
            with pytest.raises(muxwire.WorkerShutdown):
                await anext(running)
            await client.wait_closed()
            assert await other.call("conformance.echo", b"hi") == b"hi"


async def test_a_drain_without_grace_is_over_at_once() -> None:
    async with offering() as (client, _):
        assert await read(client, "drain", {"grace_ms": 0}) == [b"ok"]
        await client.wait_closed()
