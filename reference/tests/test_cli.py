"""The `muxwire` command: what it prints, where, and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from io_harness import LIMIT, Served, eventually, first_line
from muxwire.cli import main
from muxwire.cli.types import address, header, size

ROOT = Path(__file__).parents[2]


def muxwire(
    *arguments: str, stdin: bytes = b"", **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run the command as a process."""
    return subprocess.run(
        [sys.executable, "-m", "muxwire", *arguments],
        input=stdin,
        capture_output=True,
        timeout=LIMIT,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "error"},
        **options,
    )


def call(served: Served, *arguments: str, stdin: bytes = b"") -> tuple[bytes, bytes, int]:
    done = muxwire("call", *arguments, "--target", served.address, stdin=stdin)
    return done.stdout, done.stderr, done.returncode


def invoke(*arguments: str) -> Result:
    """Run the command in this process, for what ends before anything runs."""
    return CliRunner().invoke(main, arguments)


# -- options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [[], ["serve"], ["call"], ["driver"]])
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_has_examples(command: list[str], option: str) -> None:
    result = invoke(*command, option)
    assert result.exit_code == 0
    assert "Examples:\n    muxwire " in result.output
    assert max(map(len, result.output.splitlines())) <= 80


def test_every_value_of_the_test_configuration_has_an_option() -> None:
    output = invoke("serve", "--help").output
    for option in (
        "--idle-timeout-ms",
        "--max-concurrent-requests",
        "--connection-window",
        "--max-message-size",
        "--handshake-timeout-ms",
        "--max-connections",
        "--drain-grace-ms",
        "--slow-consumer-ms",
        "--max-frame-size",
        "--initial-stream-window",
        "--max-metadata-size",
    ):
        assert option in output


def test_the_version_is_printed() -> None:
    assert invoke("--version").output.startswith("muxwire, version ")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["call"], "Missing argument 'SUBJECT'"),
        (["call", "a"], "Missing option '--target'"),
        (["call", "a", "--target", "localhost"], "'localhost' is not host:port"),
        (["call", "a", "--target", "::1:80"], "[::1]:80"),
        (["call", "a", "--target", "h:99999"], "'99999' is not a port"),
        (["call", "a", "b", "--file", __file__, "--target", "h:1"], "not both"),
        (["call", "a", "--file", "/nowhere", "--target", "h:1"], "does not exist"),
        (["call", "a", "--header", "k", "--target", "h:1"], "'k' is not key=value"),
        (["call", "a", "--timeout", "0", "--target", "h:1"], "--timeout"),
        (["call", "a", "--timeout", "soon", "--target", "h:1"], "--timeout"),
        (["serve", "--tcp", "nowhere"], "'nowhere' is not host:port"),
        (["serve", "--max-frame-size", "big"], "'big' is not a size"),
        (["serve", "--max-frame-size", "1"], "MAX_FRAME_SIZE is outside"),
        (["serve", "--idle-timeout-ms", "1"], "IDLE_TIMEOUT_MS is outside"),
        (["serve", "--handshake-timeout-ms", "1"], "handshake_timeout"),
        (["serve", "--max-connections", "0"], "--max-connections"),
        (["serve", "--app", "json"], "not module:name"),
        (["serve", "--app", ":x"], "not module:name"),
        (["serve", "--app", "json:"], "not module:name"),
        (["serve", "--app", "no_such_module:x"], "No module named"),
        (["serve", "--app", "json:nothing"], "nothing"),
        (["serve", "--app", "json:loads"], "not a mapping"),
        (["serve", "--app", "os:environ"], "no function"),
        (["serve", "--log-level", "loud"], "--log-level"),
        (["dance"], "No such command 'dance'"),
    ],
)
def test_a_wrong_option_is_one_sentence_and_exit_2(arguments: list[str], text: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    (line,) = result.output.splitlines()
    assert line.startswith("Error: ")
    assert text in line
    assert isinstance(result.exception, SystemExit)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("65536", 65536),
        ("64k", 65536),
        ("64KiB", 65536),
        ("8 MiB", 8 << 20),
        ("1gb", 1 << 30),
    ],
)
def test_sizes(text: str, value: int) -> None:
    assert size(text) == value


@pytest.mark.parametrize("text", ["", "k", "-1", "1.5", "1 x", "0x10", "\u0661", "1kk"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(click.BadParameter):
        size(text)


def test_headers_are_cut_at_the_first_sign() -> None:
    assert header("a=b=c") == ("a", "b=c")
    assert header("a=") == ("a", "")
    assert address("[::1]:1") == ("::1", 1)


# -- call ------------------------------------------------------------------------------------------


def test_data_comes_from_the_command_line(served: Served) -> None:
    assert call(served, "conformance.echo", "hi") == (b"hi\n", b"", 0)
    assert call(served, "conformance.echo") == (b"\n", b"", 0)
    assert call(served, "conformance.echo", "") == (b"\n", b"", 0)
    assert call(served, "conformance.echo", "--raw", "hi") == (b"hi", b"", 0)


def test_data_that_is_no_text_comes_through(served: Served) -> None:
    argument = os.fsdecode(b"\xff\xfe\xc3\xa4")
    assert call(served, "conformance.echo", argument) == (b"\xff\xfe\xc3\xa4\n", b"", 0)


def test_data_comes_from_a_file_and_from_standard_input(served: Served, tmp_path: Path) -> None:
    data = bytes(range(256)) * 5_000
    file = tmp_path / "data"
    file.write_bytes(data)
    assert call(served, "conformance.echo", "--raw", "-f", str(file)) == (data, b"", 0)
    assert call(served, "conformance.echo", "--raw", "--file", "-", stdin=data) == (data, b"", 0)
    assert call(served, "conformance.echo", "--raw", "-", stdin=data) == (data, b"", 0)


def test_a_stream_is_a_line_a_message(served: Served) -> None:
    out, err, code = call(served, "conformance.source", '{"bytes": 2, "messages": 3}')
    assert (out, err, code) == (b"\x07&\n" * 3, b"", 0)


def test_headers_trailers_and_flags_travel(served: Served) -> None:
    out, err, code = call(
        served, "conformance.headers", "-H", "a=1", "-H", "b=", "--timeout", "9", "--idempotent"
    )
    answer = json.loads(out)
    assert answer["headers"][:2] == [["a", "1"], ["b", ""]]
    assert answer["request_flags"] == 1
    assert 8_000 < answer["timeout_ms"] <= 9_000
    assert err.startswith(b"usage: ")
    assert code == 0


def test_json_is_an_object_a_line(served: Served) -> None:
    out, err, code = call(served, "conformance.echo", "h\u00e4", "--json")
    assert [json.loads(line) for line in out.splitlines()] == [
        {"event": "message", "text": "h\u00e4"},
        {"event": "end", "trailers": []},
    ]
    assert (err, code) == (b"", 0)
    out, _, _ = call(served, "conformance.source", '{"bytes": 10}', "--json")
    message = json.loads(out.splitlines()[0])
    assert message["event"] == "message"
    assert "base64" in message or "text" in message
    out, _, _ = call(served, "conformance.echo", "-", "--json", stdin=b"\xff")
    assert json.loads(out.splitlines()[0]) == {"event": "message", "base64": "/w=="}


def test_a_failed_request_is_exit_1(served: Served) -> None:
    parameters = '{"code": 260, "after": 1, "message": "told to"}'
    out, err, code = call(served, "conformance.fail", parameters)
    assert out == bytes(8) + b"\n"
    assert err == b"muxwire call: OVERLOADED (FAILED, 1 messages received): told to\n"
    assert code == 1
    out, err, code = call(served, "conformance.fail", parameters, "--json")
    assert json.loads(out.splitlines()[-1]) == {
        "event": "error",
        "outcome": "FAILED",
        "code": "OVERLOADED",
        "number": 260,
        "messages": 1,
        "retry_after_ms": 0,
        "message": "told to",
    }
    assert (err, code) == (b"", 1)
    out, err, code = call(served, "none")
    assert (out, code) == (b"", 1)
    assert err.startswith(b"muxwire call: NOT_FOUND (NOT_PROCESSED)")
    out, err, code = call(served, "conformance.sleep", '{"ms": 60000}', "--timeout", "0.05")
    assert (out, code) == (b"", 1)
    assert err.startswith(b"muxwire call: DEADLINE_EXCEEDED")


@pytest.mark.parametrize(
    "arguments",
    [
        ["x" * 300],
        ["a", "--header", "=v"],
        ["a", "--timeout", "nan"],
        ["a", "--timeout", "inf"],
        ["a", "--timeout", "1e9"],
        [os.fsdecode(b"\xff")],
        ["a", "--header", os.fsdecode(b"k=\xff")],
    ],
)
def test_what_may_not_be_sent_is_exit_2(served: Served, arguments: list[str]) -> None:
    out, err, code = call(served, *arguments)
    assert (out, code) == (b"", 2)
    (line,) = err.splitlines()
    assert line.startswith(b"Error: ")
    assert b"Traceback" not in err


def test_no_worker_is_exit_3() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = f"127.0.0.1:{listener.getsockname()[1]}"
    done = muxwire("call", "a", "--target", target)
    assert (done.stdout, done.returncode) == (b"", 3)
    assert done.stderr == f"muxwire call: {target}: Connection refused\n".encode()
    done = muxwire("call", "a", "--target", target, "--json")
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["outcome"] == "NOT_SENT"
    assert (done.stderr, done.returncode) == (b"", 3)


def test_another_protocol_is_exit_3() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = f"127.0.0.1:{listener.getsockname()[1]}"
        process = start("call", "a", "--target", target)
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            out, err = process.communicate(timeout=LIMIT)
    assert (out, process.returncode) == ("", 3)
    assert err == f"muxwire call: {target}: what answers there does not speak WMX\n"


def test_the_target_may_come_from_the_environment(served: Served) -> None:
    environment = {**os.environ, "MUXWIRE_TARGET": served.address}
    command = [sys.executable, "-m", "muxwire", "call", "conformance.echo", "hi"]
    done = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=LIMIT)
    assert done.stdout == b"hi\n"


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "muxwire", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )


def test_ctrl_c_kills_the_request_and_is_exit_130(served: Served) -> None:
    parameters = '{"count": 1000, "interval_ms": 60000}'
    process = start(
        "call", "conformance.generate", parameters, "--json", "--target", served.address
    )
    assert json.loads(first_line(process))["event"] == "message"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=LIMIT) == ("", "")
    assert process.returncode == 130
    out, _, _ = call(served, "conformance.stats")
    assert json.loads(out)["active"] == 0


def test_ctrl_c_before_anything_is_sent_is_exit_130_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = f"127.0.0.1:{listener.getsockname()[1]}"
        process = start("call", "a", "--target", target)
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(16)
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=LIMIT) == ("", "")
    assert process.returncode == 130


def test_a_reader_that_leaves_is_no_traceback(served: Served) -> None:
    process = start(
        "call", "conformance.generate", '{"count": 100000000}', "--json", "--target", served.address
    )
    first_line(process)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(LIMIT) == 1


# -- serve -----------------------------------------------------------------------------------------


def test_serve_says_where_it_listens() -> None:
    process = start("serve", "--tcp", "127.0.0.1:0", "--conformance")
    line = first_line(process)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=LIMIT) == ("", "")
    assert process.returncode == 0
    text, _, port = line.strip().rpartition(":")
    assert text == "listening on 127.0.0.1"
    assert int(port) > 0


def test_serve_without_handlers_says_so() -> None:
    with Served() as served:
        out, err, code = call(served, "conformance.echo", "hi")
        assert (out, code) == (b"", 1)
        assert b"NOT_FOUND" in err
        assert served.stop() == ("", "no handlers: every request is answered NOT_FOUND\n", 0)


def test_serve_takes_handlers_of_its_own(tmp_path: Path) -> None:
    code = "async def shout(request):\n    return (await request.read() or b'').upper()\n"
    (tmp_path / "own_handlers.py").write_text(code + "handlers = {'shout': shout}\n")
    with Served("--app", "own_handlers:handlers", cwd=str(tmp_path)) as served:
        assert call(served, "shout", "hi") == (b"HI\n", b"", 0)


def test_conformance_takes_the_test_configuration_and_options_go_first() -> None:
    options = ["--conformance", "--max-connections", "7", "--idle-timeout-ms", "4000"]
    options += ["--drain-grace-ms", "1", "--slow-consumer-ms", "2", "--max-message-size", "2MiB"]
    with Served(*options) as served:
        out, _, _ = call(served, "conformance.info")
        info = json.loads(out)
        assert info["handshake_timeout_ms"] == 2_000
        assert info["max_connections"] == 7
        assert (info["drain_grace_ms"], info["slow_consumer_ms"]) == (1, 2)
        assert served.address.endswith(f":{info['ports']['tcp']}")
        host, port = served.address.split(":")
        with socket.create_connection((host, int(port)), timeout=LIMIT) as sock:
            sock.sendall(bytes.fromhex("f7574d580d0a1a0a0101200000000000"))
            octets = b""
            while len(octets) < 48 + 7 * 10:
                octets += sock.recv(1000)
        pairs = {
            int.from_bytes(octets[at : at + 2], "big"): int.from_bytes(
                octets[at + 2 : at + 10], "big"
            )
            for at in range(48, 48 + 70, 10)
        }
        assert pairs == {
            1: 65_536,
            2: 128,
            3: 262_144,
            4: 8 << 20,
            5: 16_384,
            6: 2 << 20,
            7: 4_000,
        }


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        done = muxwire("serve", "--conformance", "--tcp", where)
    assert done.stdout == b""
    assert done.stderr == f"Error: cannot listen on {where}: Address already in use\n".encode()
    assert done.returncode == 1


def test_a_host_that_is_not_ours_is_one_sentence() -> None:
    done = muxwire("serve", "--conformance", "--tcp", "192.0.2.1:0")
    assert done.stderr.startswith(b"Error: cannot listen on 192.0.2.1:0: ")
    assert done.stderr.count(b"\n") == 1
    assert done.returncode == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(number: signal.Signals) -> None:
    with Served("--conformance") as served:
        running = start(
            "call",
            "conformance.generate",
            '{"count": 3, "interval_ms": 150}',
            "--json",
            "--target",
            served.address,
        )
        assert json.loads(first_line(running))["event"] == "message"
        served.process.send_signal(number)
        out, err = running.communicate(timeout=LIMIT)
        events = [json.loads(line)["event"] for line in out.splitlines()]
        assert (events, err, running.returncode) == (["message", "message", "end"], "", 0)
        assert served.wait() == ("", "", 0)
        assert call(served, "conformance.echo", "hi")[2] == 3


def test_the_grace_of_a_drain_is_kept() -> None:
    with Served("--conformance", "--drain-grace-ms", "50") as served:
        running = start(
            "call",
            "conformance.generate",
            '{"count": 9, "interval_ms": 60000}',
            "--json",
            "--target",
            served.address,
        )
        first_line(running)
        assert served.stop() == ("", "", 0)
        out, _ = running.communicate(timeout=LIMIT)
        assert json.loads(out.splitlines()[-1])["code"] == "SHUTDOWN"
        assert running.returncode == 1


def listens(served: Served) -> bool:
    host, port = served.address.split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def test_a_second_signal_ends_at_once() -> None:
    with Served("--conformance", "--log-level", "info") as served:
        running = start(
            "call",
            "conformance.generate",
            '{"count": 9, "interval_ms": 60000}',
            "--json",
            "--target",
            served.address,
        )
        first_line(running)
        served.process.send_signal(signal.SIGTERM)
        eventually(lambda: not listens(served))  # the first signal was taken
        served.process.send_signal(signal.SIGTERM)
        out, _ = running.communicate(timeout=LIMIT)
        assert json.loads(out.splitlines()[-1])["code"] == "SHUTDOWN"
        out, err, code = served.wait()
        assert (out, code) == ("", 0)
        assert "connection ended" in err


def test_a_handler_that_refuses_to_end_does_not_keep_the_process() -> None:
    with Served("--conformance", "--drain-grace-ms", "0") as served:
        parameters = '{"ms": 3600000, "ignore_kill_ms": 3600000}'
        running = start("call", "conformance.sleep", parameters, "--target", served.address)
        eventually(lambda: json.loads(call(served, "conformance.stats")[0])["active"] == 1)
        assert served.stop() == ("", "", 0)
        _, err = running.communicate(timeout=LIMIT)
        assert "SHUTDOWN" in err
        assert running.returncode == 1


def test_streams_that_live_at_the_end_of_the_process_say_nothing(served: Served) -> None:
    code = f"""
import asyncio, muxwire

async def main():
    global kept
    client = await muxwire.connect("{served.address}")
    kept = [client.stream("conformance.sleep", b'{{"ms": 60000}}') for _ in range(3)]
    kept.append(client.stream("conformance.generate", b'{{"count": 3}}'))
    await asyncio.sleep(0)
    client.abort()

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", code], capture_output=True, timeout=LIMIT, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == (b"", b"", 0)
