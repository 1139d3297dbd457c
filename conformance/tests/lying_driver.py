"""Driver programs for the tests of client mode: each does one thing wrong, as its argument says.

None of them has a client. `honest` invents the events of a client that succeeds at once.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, TextIO


def write(line: str, stream: TextIO = sys.stdout) -> None:
    stream.write(f"{line}\n")
    stream.flush()


def say(**event: Any) -> None:
    write(json.dumps(event))


def ready(*features: str) -> None:
    say(
        event="ready",
        driver="lying",
        protocol="wmx-driver/1",
        transports=["tcp"],
        features=list(features),
    )


def end(ref: str, messages: int = 0) -> None:
    say(event="end", ref=ref, messages=messages, attempts=1, trailers=[])


def on_request(mode: str, ref: str) -> None:
    if mode == "garbage":
        write("this is no JSON")
    elif mode == "exit-3":
        write("something broke", sys.stderr)
        sys.exit(3)
    elif mode == "two-ends":
        end(ref)
        end(ref)
    elif mode == "unknown-ref":
        end(f"{ref}?")
    elif mode == "miscounts":
        end(ref, messages=2)
    elif mode == "pause-unsupported":
        say(event="unsupported", op="pause", ref=ref, feature="pause")
    elif mode == "bidi-unsupported":
        say(event="unsupported", op="send", ref=ref, feature="bidi")
    elif mode == "request-invalid":
        say(event="invalid", op="request", ref=ref, message="no such thing")
    elif mode != "silent":
        end(ref)


def main(mode: str) -> None:
    if mode == "hangs-at-start":
        sys.stdin.read()
        sys.exit(0)
    if mode == "says-hello":
        write("hello")
    if mode == "has-a-child":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        write(str(child.pid), sys.stderr)
    ready("pause", "timing")
    for line in sys.stdin:
        op = json.loads(line)
        if op["op"] == "request":
            on_request(mode, op["ref"])
        elif op["op"] == "sync":
            say(event="synced", id=op["id"])
        elif op["op"] == "close":
            break
    if mode == "never-closes":
        while True:
            sys.stdin.read()
    if mode == "exits-without-closed":
        return
    say(event="closed")
    sys.exit(5 if mode == "exit-5" else 0)


if __name__ == "__main__":
    main(sys.argv[1])
