from __future__ import annotations

import pytest
from core_harness import ACK, PREFACE, client, opening, raw, rid, settings_frame, worker
from muxwire._generated import codec
from muxwire._generated.codec import encode_preface
from muxwire._generated.registries import ErrorCode
from muxwire.core import CloseAction, HandshakeDone, RequestReceived, ResponseFailed
from muxwire.core.handshake import Handshake
from muxwire.errors import Outcome, ProtocolViolation


def offer(high: int, low: int, header_size: int = 32) -> bytes:
    return codec.MAGIC + bytes((high, low, header_size, 0)) + bytes(4)


def test_a_preface_may_come_in_any_pieces() -> None:
    for cut in range(17):
        handshake = Handshake(codec.WORKER, 5.0, 5.0)
        rest = handshake.feed(PREFACE[:cut]) if cut else None
        rest = handshake.feed(PREFACE[cut:] + b"more") if rest is None else rest + b"more"
        assert rest == b"more"
        assert handshake.preface == codec.Preface(1, 1, 32)


@pytest.mark.parametrize("at", range(8))
def test_the_first_wrong_octet_is_enough(at: int) -> None:
    handshake = Handshake(codec.WORKER, 5.0, 5.0)
    handshake.feed(codec.MAGIC[:at])
    with pytest.raises(ProtocolViolation, match="HSK-002"):
        handshake.feed(bytes([codec.MAGIC[at] ^ 1]))


def test_worker_is_silent_until_the_preface_is_complete() -> None:
    wire = worker(shake=False)
    assert wire.octets == b""
    wire.send(PREFACE[:15])
    assert wire.octets == b""
    frames = wire.send(PREFACE[15:])
    assert wire.preface == encode_preface(1, 1)
    assert [frame[0] for frame in frames] == [codec.SETTINGS]
    frames = wire.send(settings_frame())
    assert [frame[0] for frame in frames] == [codec.SETTINGS_ACK]
    assert not wire.events(HandshakeDone)
    wire.send(ACK)
    assert wire.one(HandshakeDone).version == 1


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"\xf7WMY"])
def test_worker_closes_without_an_octet_on_other_protocols(first: bytes) -> None:
    wire = worker(shake=False)
    wire.send(first)
    assert wire.octets == b""
    assert wire.core.close_action is CloseAction.CLOSE
    assert wire.ended.requirement == "HSK-002"
    assert wire.ended.code is None


@pytest.mark.parametrize("octets", [offer(1, 1), offer(200, 1), offer(255, 0)])
def test_worker_selects_its_version(octets: bytes) -> None:
    """HSK-003."""
    wire = worker(shake=False)
    wire.send(octets)
    assert wire.preface == encode_preface(1, 1)
    assert wire.core.close_action is CloseAction.NONE


@pytest.mark.parametrize(
    "octets", [offer(9, 7), offer(0, 0), offer(0, 2), offer(1, 1, 48), offer(1, 1, 31)]
)
def test_worker_refuses_with_one_preface_and_no_frame(octets: bytes) -> None:
    wire = worker(shake=False)
    wire.send(octets, settings_frame(), opening(1))
    assert wire.octets == encode_preface(1, 1)
    assert wire.core.close_action is CloseAction.LINGER
    assert wire.ended.requirement == "HSK-004"


def test_flags_and_reserved_octets_of_a_preface_are_ignored() -> None:
    wire = worker(shake=False)
    wire.send(codec.MAGIC + bytes((1, 1, 32)) + b"\xff" * 5)
    assert wire.core.close_action is CloseAction.NONE


@pytest.mark.parametrize(
    "octets",
    [offer(3, 2), offer(2, 2), offer(1, 0), offer(2, 1), offer(0, 0), offer(1, 1, 48)],
)
def test_client_takes_everything_but_its_selection_for_a_refusal(octets: bytes) -> None:
    wire = client(shake=False)
    first = wire.core.open(b"a", now=0.0, data=b"x")
    wire.pull()
    second = wire.core.open(b"a", now=0.0, data=b"x")
    wire.core.receive_data(octets, 0.0)  # no chance to write the second
    wire.pull()
    assert wire.core.close_action is CloseAction.CLOSE
    assert wire.goaway is None
    outcomes = {event.request_id: event for event in wire.events(ResponseFailed)}
    assert outcomes[first].outcome is Outcome.NOT_PROCESSED
    assert outcomes[second].outcome is Outcome.NOT_SENT
    assert outcomes[first].code is None
    assert wire.ended.requirement == "HSK-004"


@pytest.mark.parametrize("how", ["wrong", "eof", "silence"])
def test_client_without_a_preface_knows_nothing(how: str) -> None:
    wire = client(shake=False)
    first = wire.core.open(b"a", now=0.0, data=b"x")
    wire.pull()
    second = wire.core.open(b"a", now=0.0, data=b"x")
    match how:
        case "wrong":
            wire.core.receive_data(b"HTTP", 0.0)
        case "eof":
            wire.core.receive_eof(0.0)
        case _:
            wire.core.handle_timeout(5.0)
    wire.pull()
    assert wire.core.close_action is CloseAction.CLOSE
    assert wire.goaway is None
    outcomes = {event.request_id: event.outcome for event in wire.events(ResponseFailed)}
    assert outcomes == {first: Outcome.AMBIGUOUS, second: Outcome.NOT_SENT}


def test_client_sends_preface_settings_and_requests_at_once() -> None:
    """HSK-001."""
    wire = client(shake=False)
    wire.core.open(b"a", now=0.0, data=b"x")
    wire.pull()
    assert wire.preface == encode_preface(1, 1)
    assert [frame[0] for frame in wire.frames] == [codec.SETTINGS, codec.REQUEST]


def test_worker_serves_requests_right_behind_the_settings() -> None:
    """HSK-009."""
    wire = worker(shake=False)
    wire.send(PREFACE, settings_frame(), opening(1, b"hi"))
    assert wire.one(RequestReceived).data == b"hi"
    assert [frame[0] for frame in wire.frames] == [codec.SETTINGS, codec.SETTINGS_ACK]


@pytest.mark.parametrize(
    "first",
    [
        codec.encode_ping(bytes(8)),
        ACK,
        opening(1),
        raw(0x8A),
        raw(0x05),
        codec.encode_goaway(0, 0, 0, b""),
    ],
)
def test_any_first_frame_but_settings_is_refused(first: bytes) -> None:
    wire = worker(shake=False)
    wire.send(PREFACE, first)
    wire.assert_violation(ErrorCode.PROTOCOL_ERROR, "HSK-005")


def test_settings_come_once() -> None:
    wire = worker()
    wire.send(codec.encode_settings([]))
    wire.assert_violation(ErrorCode.PROTOCOL_ERROR, "HSK-006")


def test_the_ack_comes_once() -> None:
    wire = client()
    wire.send(ACK)
    wire.assert_violation(ErrorCode.PROTOCOL_ERROR, "HSK-007")


def test_an_ack_with_payload_has_the_wrong_size() -> None:
    wire = worker(shake=False)
    wire.send(PREFACE, settings_frame(), raw(3, subtype=2, payload=b"x"))
    wire.assert_violation(ErrorCode.FRAME_SIZE_ERROR, "PAY-001")


@pytest.mark.parametrize("changes", [{"max_frame_size": 100}, {"idle_timeout_ms": 50}])
def test_bad_settings_are_refused(changes: dict[str, int]) -> None:
    wire = worker(shake=False)
    wire.send(PREFACE, settings_frame(**changes))
    wire.assert_violation(ErrorCode.SETTINGS_ERROR, "SET-001")


def test_repeated_settings_ids_are_refused() -> None:
    wire = worker(shake=False)
    wire.send(PREFACE, codec.encode_settings([(0x2A2A, 1), (0x2A2A, 1)]))
    wire.assert_violation(ErrorCode.SETTINGS_ERROR, "SET-002")


@pytest.mark.parametrize("sent", [b"", PREFACE[:7]])
def test_worker_drops_a_peer_without_a_preface_silently(sent: bytes) -> None:
    wire = worker(shake=False, handshake_timeout=2.0)
    if sent:
        wire.send(sent)
    wire.advance(1.99)
    assert wire.core.close_action is CloseAction.NONE
    wire.advance(0.01)
    assert wire.octets == b""
    assert wire.core.close_action is CloseAction.CLOSE
    assert wire.ended.requirement == "HSK-008"


@pytest.mark.parametrize("sent", [[PREFACE], [PREFACE, settings_frame()]])
def test_worker_names_the_timeout_after_a_preface(sent: list[bytes]) -> None:
    wire = worker(shake=False, handshake_timeout=2.0)
    wire.send(*sent)
    wire.advance(2.0)
    wire.assert_violation(ErrorCode.HANDSHAKE_TIMEOUT, "HSK-008")


def test_dribbling_does_not_extend_the_handshake() -> None:
    wire = worker(shake=False)
    for octet in PREFACE + settings_frame():
        wire.send(bytes([octet]))
        wire.advance(1.0)
    assert wire.ended.requirement == "HSK-008"


@pytest.mark.parametrize("sent", [b"", PREFACE[:15]])
def test_client_gives_a_dial_without_a_preface_up_earlier(sent: bytes) -> None:
    wire = client(shake=False, connect_timeout=0.5)
    if sent:
        wire.send(sent)
    wire.advance(0.5)
    assert wire.goaway is None
    assert wire.core.close_action is CloseAction.CLOSE
    wire = client(shake=False, connect_timeout=0.5)
    wire.send(PREFACE)
    wire.advance(4.9)
    assert wire.core.close_action is CloseAction.NONE


def test_client_names_the_timeout_after_a_preface() -> None:
    wire = client(shake=False)
    wire.send(PREFACE, settings_frame())
    wire.advance(5.0)
    wire.assert_violation(ErrorCode.HANDSHAKE_TIMEOUT, "HSK-008")


def test_connection_limit() -> None:
    """HSK-011."""
    wire = worker(shake=False, admit=lambda: False)
    wire.send(PREFACE[:15])
    assert wire.octets == b""
    wire.send(PREFACE[15:], settings_frame(), opening(1))
    assert [frame[0] for frame in wire.frames] == [codec.GOAWAY]
    goaway = wire.goaway
    assert goaway is not None
    assert (goaway.code, goaway.last_ordinal) == (ErrorCode.CONNECTION_LIMIT, 0)
    assert wire.core.close_action is CloseAction.LINGER


def test_client_refused_by_the_connection_limit() -> None:
    wire = client(shake=False)
    request = wire.core.open(b"a", now=0.0, data=b"x")
    wire.pull()
    wire.send(PREFACE, codec.encode_goaway(ErrorCode.CONNECTION_LIMIT, 0, 0, b""))
    event = wire.one(ResponseFailed)
    assert (event.request_id, event.outcome) == (request, Outcome.NOT_PROCESSED)
    assert event.code == ErrorCode.CONNECTION_LIMIT
    wire.core.receive_eof(0.0)
    wire.pull()
    assert not wire.ended.handshake
    assert wire.ended.code == ErrorCode.CONNECTION_LIMIT
    assert wire.ended.by_peer


def test_each_side_greases_its_settings() -> None:
    """FRM-012."""
    for wire in (worker(), client()):
        pairs = codec.decode_settings(wire.frames[0][4]).settings
        assert [n for n, _ in pairs if n & 0x0F0F == 0x0A0A and n >> 12 == n >> 4 & 0xF]
    assert not [
        n for n, _ in codec.decode_settings(worker(grease=False).frames[0][4]).settings if n > 7
    ]


def test_the_id_is_opaque() -> None:
    """FRM-009."""
    wire = worker()
    wire.send(opening(1), opening(2**128 - 2))
    assert [event.request_id for event in wire.events(RequestReceived)] == [
        rid(1),
        rid(2**128 - 2),
    ]


@pytest.mark.parametrize("sent", [[], [PREFACE[:15]], [PREFACE], [PREFACE, settings_frame()[:9]]])
def test_an_unfinished_handshake_waits_for_one_timer(sent: list[bytes]) -> None:
    """DOS-004: nothing wakes up for it before its time is over."""
    wire = worker(shake=False)
    wire.send(*sent)
    assert wire.core.next_timeout() == 5.0
