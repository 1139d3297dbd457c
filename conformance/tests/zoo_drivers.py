"""Drivers that are no client, or only pretend to be one.

Usage: `python zoo_drivers.py NAME [MEMORY] ADDR`.

With MEMORY, a file, the first run is a sound client (the judge looks at the driver once before it
begins), and every later run is the impostor.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import model_client
from model_client_flaws import FLAWS

READY = {
    "event": "ready",
    "driver": "impostor",
    "protocol": model_client.PROTOCOL,
    "transports": ["tcp"],
    "features": list(model_client.FEATURES),
}
FOR_EVER = 60.0


def say(**event: Any) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def operations() -> Iterator[dict[str, Any]]:
    """Read operations to the end; answer those about the driver itself."""
    for line in sys.stdin:
        op = json.loads(line)
        if op["op"] == "sync":
            say(event="synced", id=op["id"])
        elif op["op"] == "close":
            break
        else:
            yield op
    say(event="closed")


def dial(addr: str) -> socket.socket:
    host, _colon, port = addr.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=FOR_EVER)


# -- what breaks the driver protocol -------------------------------------------------------------


def mute(_addr: str) -> None:
    sys.stdin.read()


def hangs(_addr: str) -> None:
    time.sleep(FOR_EVER)


def exits(_addr: str) -> None:
    sys.exit(3)


def babbles(_addr: str) -> None:
    sys.stdout.write("Welcome to my client!\n" * 3)
    sys.stdout.flush()
    sys.stdin.read()


def binary(_addr: str) -> None:
    os.write(1, random.Random(8).randbytes(10_000))
    sys.stdin.read()


def endless_line(_addr: str) -> None:
    try:
        while True:
            os.write(1, b"x" * 65_536)
    except BrokenPipeError:
        os._exit(1)


def never_closes(_addr: str) -> None:
    say(**READY)
    sys.stdin.read()
    time.sleep(FOR_EVER)


def crashes_on_the_first_operation(_addr: str) -> None:
    say(**READY)
    sys.stdin.readline()
    os._exit(7)


def makes_up_requests(_addr: str) -> None:
    say(**READY)
    for _op in operations():
        say(event="message", ref="nobody", body_b64="")


def ends_twice(_addr: str) -> None:
    say(**READY)
    for op in operations():
        if op["op"] == "request":
            for _ in range(2):
                say(event="end", ref=op["ref"], messages=0, attempts=1, trailers=[])


# -- what keeps the driver protocol and is no client ---------------------------------------------


def does_nothing(_addr: str) -> None:
    say(**READY)
    for _op in operations():
        pass


def ends_everything(_addr: str) -> None:
    say(**READY)
    for op in operations():
        if op["op"] == "request":
            say(event="end", ref=op["ref"], messages=0, attempts=1, trailers=[])


def fails_everything(_addr: str) -> None:
    say(**READY)
    for op in operations():
        if op["op"] == "request":
            outcome = {"class": "FAILED", "code": 256, "local": False}
            say(event="error", ref=op["ref"], messages=0, attempts=1, **outcome)


def _connected(addr: str, talk: Callable[[socket.socket], None]) -> None:
    say(**READY)
    for op in operations():
        if op["op"] == "connect":
            sock = dial((op.get("addrs") or [addr])[0])
            with sock, contextlib.suppress(OSError):
                talk(sock)
        elif op["op"] == "request":
            say(event="end", ref=op["ref"], messages=0, attempts=1, trailers=[])


def connects_and_closes(addr: str) -> None:
    _connected(addr, lambda _sock: None)


def speaks_http(addr: str) -> None:
    _connected(addr, lambda sock: sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))


def wrong_version(addr: str) -> None:
    _connected(addr, lambda sock: sock.sendall(bytes.fromhex("f7574d580d0a1a0a0909200000000000")))


def random_octets(addr: str) -> None:
    _connected(addr, lambda sock: sock.sendall(random.Random(8).randbytes(100_000)))


def preface_and_silence(addr: str) -> None:
    def talk(sock: socket.socket) -> None:
        sock.sendall(bytes.fromhex("f7574d580d0a1a0a0101200000000000"))
        sock.settimeout(1.0)
        while sock.recv(65_536):
            pass

    _connected(addr, talk)


def echo(addr: str) -> None:
    def talk(sock: socket.socket) -> None:
        sock.settimeout(1.0)
        while data := sock.recv(65_536):
            sock.sendall(data)

    _connected(addr, talk)


IMPOSTORS: dict[str, Callable[[str], None]] = {
    one.__name__.replace("_", "-"): one
    for one in (
        *(mute, hangs, exits, babbles, binary, endless_line, never_closes),
        *(crashes_on_the_first_operation, makes_up_requests, ends_twice),
        *(does_nothing, ends_everything, fails_everything, connects_and_closes, speaks_http),
        *(wrong_version, random_octets, preface_and_silence, echo),
    )
}


def main(name: str, *rest: str) -> int:
    """Be an impostor; with a memory, be one from the second run on."""
    *memory, addr = rest
    if memory and not Path(memory[0]).exists():
        Path(memory[0]).touch()
        return model_client.main([addr])
    if name in FLAWS:
        return model_client.main([addr, "--flaw", name])
    IMPOSTORS[name](addr)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
