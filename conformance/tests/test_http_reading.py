from __future__ import annotations

import pytest
from muxwire_conformance.http import h1
from muxwire_conformance.http.binary import reader
from muxwire_conformance.http.events import DONE, FAILED, ITEM
from muxwire_conformance.http.h1 import BodyEnd, H1Reader
from muxwire_conformance.http.h2 import H2, DataCame, HeadersCame
from muxwire_conformance.http.head import Head
from muxwire_spec.vectors.http import BROKEN, WHOLE

RULES = {"P1-005", "P1-006", "P1-007", "P1-009", "P1-010", "P1-011"}
ANSWER = h1.answer(200, "OK", [("Transfer-Encoding", "chunked"), ("X-One", " 1 ")])
STREAM = ANSWER + h1.chunk(b"ab") + h1.chunk(b"c") + h1.chunk(b"")


@pytest.mark.parametrize("vector", WHOLE, ids=lambda vector: vector["name"])
@pytest.mark.parametrize("size", [1, 7, 1_000_000])
def test_a_whole_body_is_read_in_any_pieces_without_a_fault(
    vector: dict[str, object], size: int
) -> None:
    body = bytes.fromhex(str(vector["body"]))
    one = reader(str(vector["format"]))
    events = [
        event
        for at in range(0, len(body), size)
        for event in one.feed(body[at : at + size], float(at))
    ]
    one.finish()
    assert one.faults == []
    kinds = [event.kind for event in events]
    assert kinds[0] == "heartbeat"
    assert kinds[-1] == (FAILED if vector["code"] else DONE)
    items = [event for event in events if event.kind in (ITEM, "bin")]
    assert len(items) == len(list(vector["messages"]))  # type: ignore[call-overload]
    if vector["code"]:
        assert events[-1].error["code"] == vector["code"]


@pytest.mark.parametrize(
    "vector",
    [one for one in BROKEN if one["end"] == "clean" and "error-count" not in one["name"]],
    ids=lambda vector: vector["name"],
)
def test_a_broken_body_is_a_fault_that_names_its_rule(vector: dict[str, object]) -> None:
    one = reader(str(vector["format"]))
    one.feed(bytes.fromhex(str(vector["body"])), 0.0)
    one.finish()
    assert one.faults
    assert {fault.requirement for fault in one.faults} <= RULES


def _read(octets: bytes, size: int) -> tuple[list[object], H1Reader]:
    one = H1Reader()
    found: list[object] = []
    for at in range(0, len(octets), size):
        found += one.feed(octets[at : at + size], 0.0)
    return found, one


@pytest.mark.parametrize("size", [1, 3, 1_000])
def test_an_answer_in_chunks_is_read_in_any_pieces(size: int) -> None:
    found, one = _read(STREAM * 2, size)
    assert one.fault == ""
    heads = [item for item in found if isinstance(item, Head)]
    assert [head.fields for head in heads] == [
        [("transfer-encoding", "chunked"), ("x-one", "1")]
    ] * 2
    assert b"".join(item for item in found if isinstance(item, bytes)) == b"abcabc"
    assert sum(isinstance(item, BodyEnd) for item in found) == 2
    assert not one.inside


@pytest.mark.parametrize("cut", range(1, len(STREAM)))
def test_an_answer_that_is_cut_has_no_end(cut: int) -> None:
    found, one = _read(STREAM[:cut], 1_000)
    found += one.eof()
    assert not any(isinstance(item, BodyEnd) for item in found)
    assert one.inside


def test_only_the_end_of_the_connection_ends_a_body_without_a_length() -> None:
    found, one = _read(h1.answer(200, "OK", []) + b"ab", 1_000)
    assert one.framing == "close"
    assert [item for item in one.eof() if isinstance(item, BodyEnd)]
    assert b"ab" in found


@pytest.mark.parametrize(
    "octets",
    [
        b"SSH-2.0-x\r\n",
        ANSWER + b"zz\r\n",
        ANSWER + b"1\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\nno\r\n\r\n",
    ],
)
def test_octets_that_are_no_http_are_a_fault(octets: bytes) -> None:
    _found, one = _read(octets, 1)
    assert one.fault


def test_both_sides_of_http_2_understand_each_other_within_their_windows() -> None:
    out: dict[str, list[bytes]] = {"client": [], "worker": []}
    client = H2(client=True, write=out["client"].append, window=100)
    worker = H2(client=False, write=out["worker"].append)
    events: dict[str, list[object]] = {"client": [], "worker": []}

    def exchange() -> None:
        while out["client"] or out["worker"]:
            while out["client"]:
                events["worker"] += worker.feed(out["client"].pop(0))
            while out["worker"]:
                events["client"] += client.feed(out["worker"].pop(0))

    stream = client.open([(":method", "POST"), (":path", "/"), ("x", "\xe9")], end=True)
    exchange()
    assert events["worker"] == [
        HeadersCame(
            stream=stream, fields=[(":method", "POST"), (":path", "/"), ("x", "\xe9")], end=True
        )
    ]
    client.hold(stream)
    worker.headers(stream, [(":status", "200")])
    worker.data(stream, b"d" * 250, end=True)
    exchange()
    assert worker.waiting(stream) == 150
    client.hold(stream, False)
    exchange()
    assert worker.waiting(stream) == 0
    data = [event for event in events["client"] if isinstance(event, DataCame)]
    assert b"".join(event.data for event in data) == b"d" * 250
    assert data[-1].end
    assert not client.fault
    assert not worker.fault


def test_more_than_the_window_is_a_fault() -> None:
    sent: list[bytes] = []
    client = H2(client=True, write=sent.append, window=10)
    worker = H2(client=False, write=lambda _data: None)
    list(worker.feed(b"".join(sent)))
    stream = client.open([(":method", "POST")], end=True)
    frames = b"\0\0\0\4\0\0\0\0\0" + b"\0\0\x0b\0\0" + stream.to_bytes(4, "big") + bytes(11)
    list(client.feed(frames))
    assert "exceeds" in client.fault
