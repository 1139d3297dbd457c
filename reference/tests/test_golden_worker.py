"""`muxwire serve --conformance` on a real socket answers the golden vectors of chapter 20.

The octets are spelled out here, and read back with nothing but `struct`.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

V1_PREFACE = bytes.fromhex("f7574d580d0a1a0a 0101200000000000")
V2_SETTINGS = bytes.fromhex(
    "f703000100000000 000000000000001e 0000000000000000 0000000000000000"
    "0001 0000000000010000 0007 000000000000ea60 1a1a 0000000000000007"
)
V3_SETTINGS_ACK = bytes.fromhex(
    "f703000200000000 0000000000000000 0000000000000000 0000000000000000"
)
V4_OPEN = bytes.fromhex(
    "f701050000000000 0000000000000065 0190b3f27c4e7a11 8f000123456789ab"
    "0000005f 00001388 0001 0001 0010 636f6e666f726d616e63652e6563686f"
    "0b 7472616365706172656e74 0037"
    "30302d306166373635313931366364343364643834343865623231316338303331"
    "39632d623761643662373136393230333333312d3031"
    "6869"
)
V5_RESPONSE = bytes.fromhex(
    "f702000000000000 0000000000000002 0190b3f27c4e7a11 8f000123456789ab 6869"
)
V6_TERMINAL = bytes.fromhex("f702010000000001 0000000000000000 0190b3f27c4e7a11 8f000123456789ab")
V7_OVERLOADED = bytes.fromhex(
    "f702090000000000 0000000000000010 0190b3f27c4e7a11 8f000123456789ab"
    "00000104 0001 000000fa 0004 62757379"
)
V8_WINDOW_UPDATE = bytes.fromhex(
    "f703000300000000 0000000000000008 0000000000000000 0000000000000000 0000000008000000"
)
V9_KILL = bytes.fromhex(
    "f703000500000000 0000000000000004 0190b3f27c4e7a11 8f000123456789ab 00000100"
)
V10_PING = bytes.fromhex(
    "f704000100000000 0000000000000008 0000000000000000 0000000000000000 0102030405060708"
)
V10_PONG = bytes.fromhex(
    "f704000200000000 0000000000000008 0000000000000000 0000000000000000 0102030405060708"
)
V11_GOAWAY = bytes.fromhex(
    "f703000600000000 0000000000000017 0000000000000000 0000000000000000"
    "00000000 0000000000000003 00007530 0005 647261696e"
)

ID = V4_OPEN[16:32]
SLEEP = bytes.fromhex(  # an OPEN like V4, of conformance.sleep with {"ms":60000}
    "f701050000000000 000000000000002b 0190b3f27c4e7a11 8f000123456789ab"
    "0000001b 00000000 0000 0000 0011 636f6e666f726d616e63652e736c656570"
    "7b226d73223a36303030307d"
)


class Wire:
    """A blocking socket that reads frames."""

    def __init__(self, address: str) -> None:
        host, port = address.split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=10)

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            assert more, data
            data += more
        return data

    def frame(self) -> bytes:
        """Return the next frame that is not a WINDOW_UPDATE."""
        while True:
            header = self.read(32)
            assert header[0] == 0xF7
            frame = header + self.read(struct.unpack(">Q", header[8:16])[0])
            if header[1:4:2] != b"\x03\x03":
                return frame


@contextmanager
def handshaken(served: Any) -> Iterator[Wire]:
    wire = Wire(served.address)
    with wire.socket:
        wire.socket.sendall(V1_PREFACE + V2_SETTINGS)
        assert wire.read(16) == V1_PREFACE
        settings = wire.frame()
        assert settings[:8] == V2_SETTINGS[:8]
        assert settings[16:32] == bytes(16)
        assert len(settings) % 10 == 32 % 10
        assert wire.frame() == V3_SETTINGS_ACK
        wire.socket.sendall(V3_SETTINGS_ACK)
        yield wire


def test_the_vectors_have_the_sizes_of_the_specification() -> None:
    sizes = [len(vector) for name, vector in globals().items() if name[0] == "V"]
    assert sizes == [16, 62, 32, 133, 34, 32, 48, 40, 36, 40, 40, 55]


def test_an_echo_is_answered_octet_by_octet(served: Any) -> None:
    with handshaken(served) as wire:
        wire.socket.sendall(V4_OPEN)
        first = wire.frame()
        if first == V5_RESPONSE:
            assert wire.frame() == V6_TERMINAL
        else:  # the message and the end in one frame say the same
            assert first == V5_RESPONSE[:2] + b"\x01" + V5_RESPONSE[3:]


def test_everything_in_one_write_is_answered_in_order(served: Any) -> None:
    wire = Wire(served.address)
    with wire.socket:
        wire.socket.sendall(V1_PREFACE + V2_SETTINGS + V4_OPEN + V3_SETTINGS_ACK)
        assert wire.read(16) == V1_PREFACE
        assert wire.frame()[:4] == V2_SETTINGS[:4]
        assert wire.frame() == V3_SETTINGS_ACK
        answer = wire.frame()
        assert answer[:2] + answer[16:] == V5_RESPONSE[:2] + V5_RESPONSE[16:]


def test_a_ping_is_answered_with_its_octets(served: Any) -> None:
    with handshaken(served) as wire:
        wire.socket.sendall(V10_PING)
        assert wire.frame() == V10_PONG


def test_a_kill_ends_a_request_with_cancelled(served: Any) -> None:
    with handshaken(served) as wire:
        wire.socket.sendall(SLEEP + V10_PING)
        assert wire.frame() == V10_PONG
        wire.socket.sendall(V9_KILL)
        terminal = wire.frame()
        assert terminal[:8] == bytes.fromhex("f702090000000000")
        assert terminal[16:32] == ID
        assert terminal[32:38] == bytes.fromhex("00000100 0000")


def test_a_kill_for_nothing_and_a_higher_limit_change_nothing(served: Any) -> None:
    with handshaken(served) as wire:
        wire.socket.sendall(V9_KILL + V8_WINDOW_UPDATE + V10_PING)
        assert wire.frame() == V10_PONG


def test_a_goaway_ends_the_connection_in_order(served: Any) -> None:
    with handshaken(served) as wire:
        wire.socket.sendall(V4_OPEN + V11_GOAWAY)
        while not wire.frame()[2] & 1:
            pass
        assert wire.socket.recv(1) == b""


@pytest.mark.parametrize("vector", [V5_RESPONSE, V7_OVERLOADED])
def test_a_response_to_a_worker_is_an_error(served: Any, vector: bytes) -> None:
    with handshaken(served) as wire:
        wire.socket.sendall(vector)
        goaway = wire.frame()
        assert goaway[:4] == V11_GOAWAY[:4]
        assert goaway[32:36] == bytes.fromhex("00000001")
        assert b"TYP-001" in goaway
        assert wire.socket.recv(1) == b""


def test_vectors_arrive_in_single_octets(served: Any) -> None:
    wire = Wire(served.address)
    with wire.socket:
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in V1_PREFACE + V2_SETTINGS + V3_SETTINGS_ACK + V10_PING:
            wire.socket.sendall(bytes([octet]))
        assert wire.read(16) == V1_PREFACE
        wire.frame()
        assert wire.frame() == V3_SETTINGS_ACK
        assert wire.frame() == V10_PONG
