"""The short path of a client for plain frames does what the long path does, whatever arrives."""

from __future__ import annotations

from typing import Any

import pytest
from core_harness import client, response
from hypothesis import event, given
from hypothesis import strategies as st
from muxwire._generated.registries import END_STREAM, META, MORE
from muxwire.core import client as module
from muxwire.core.client import PLAIN, ClientConnection

FRAMES = st.lists(
    st.tuples(
        st.sampled_from([0, 0, END_STREAM, MORE, META, META | END_STREAM, 8 | END_STREAM]),
        st.sampled_from([0, 0, 0, 0, 0, 1, -1]),  # how far the number is off
        st.sampled_from([b"x", b"x" * 40, b"\0\0\0\0", b"", bytes(60_000), bytes(100_000)]),
    ),
    max_size=12,
)


def play(frames: list[tuple[int, int, bytes]], act: dict[int, str], *, end: bool) -> list[Any]:
    """Answer a request with these frames and return all that can be seen of the client."""
    wire = client(max_message_size=1 << 20, initial_stream_window=150_000, max_frame_size=1 << 20)
    core = wire.core
    request_id = core.open(b"a.b", now=0.0, data=b"x", end=end, timeout_ms=5)
    wire.pull()
    for index, (flags, off, payload) in enumerate(frames):
        match act.get(index):
            case "kill":
                core.kill(request_id)
            case "stop":
                core.stop(request_id)
            case "wait":
                core.awaiting(request_id)
            case "take":
                for seen in wire.seen:
                    if (cost := getattr(seen, "cost", 0)) and core._credit.held >= cost:
                        core.consumed(request_id, cost)
                        wire.seen.remove(seen)
                        break
        wire.send(response(request_id, max(0, index + off), payload, flags))
    wire.advance(3)
    credit = core._credit
    state = [vars_of(request) for request in core._requests.values()]
    return [wire.octets, wire.seen, credit.received, credit.held, credit.limit, state, core._unread]


def vars_of(request: Any) -> tuple[Any, ...]:
    credit = request.credit
    names = ("state", "next_seq", "chunk_cost", "awaited", "responded", "messages", "verdict")
    return (*(getattr(request, name) for name in names), credit.received, credit.returned)


@given(
    frames=FRAMES,
    act=st.dictionaries(st.integers(0, 11), st.sampled_from(["kill", "stop", "wait", "take"])),
    end=st.booleans(),
)
def test_both_paths_agree(
    frames: list[tuple[int, int, bytes]], act: dict[int, str], end: bool
) -> None:
    taken = 0
    short = ClientConnection._on_plain

    def counting(self: Any, *arguments: Any) -> None:
        nonlocal taken
        taken += 1
        short(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClientConnection, "_on_plain", counting)
        quick = play(frames, act, end=end)
        patch.setattr(module, "PLAIN", frozenset())
        expected = taken
        slow = play(frames, act, end=end)
    event(f"{min(expected, 3)} frames by the short path")
    assert taken == expected
    assert quick == slow


def test_the_short_path_is_taken() -> None:
    assert {0, END_STREAM} == PLAIN
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(ClientConnection, "_on_response")  # the long one
        seen = play([(0, 0, b"one"), (END_STREAM, 0, b"two")], {}, end=True)[1]
    assert [item.data for item in seen if hasattr(item, "data")] == [b"one", b"two"]
