"""A transport that the test owns: it remembers what it was told, and may keep octets back."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any


class FakeSocket:
    def __init__(self) -> None:
        self.options: list[tuple[int, int, Any]] = []

    def setsockopt(self, level: int, name: int, value: Any) -> None:
        self.options.append((level, name, value))


class FakeTransport(asyncio.Transport):
    """Remembers what it was told; `hold` keeps octets from the kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.writes: list[bytes] = []
        self.socket = FakeSocket()
        self.hold = False
        self.buffer = 0
        self.high = 0
        self.protocol: asyncio.Protocol | None = None
        self.paused = False
        self.lost = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"socket": self.socket, "peername": ("192.0.2.1", 7)}.get(name, default)

    def set_write_buffer_limits(self, high: int | None = None, _low: int | None = None) -> None:
        self.high = high or 0

    def get_write_buffer_size(self) -> int:
        return self.buffer

    def write(self, data: Any) -> None:
        assert "write_eof" not in self.calls
        assert "close" not in self.calls
        self.writes.append(bytes(data))
        if self.hold:
            self.buffer += len(data)
            if self.buffer > self.high and not self.paused:
                self.paused = True
                assert self.protocol is not None
                self.protocol.pause_writing()

    def release(self, octets: int | None = None) -> None:
        self.buffer -= self.buffer if octets is None else octets
        if self.paused and self.buffer <= self.high // 4:
            self.paused = False
            assert self.protocol is not None
            self.protocol.resume_writing()

    def write_eof(self) -> None:
        self.calls.append("write_eof")

    def is_closing(self) -> bool:
        return "close" in self.calls or "abort" in self.calls

    def close(self) -> None:
        self.calls.append("close")
        if not self.buffer:
            asyncio.get_running_loop().call_soon(self.lose)

    def abort(self) -> None:
        self.calls.append("abort")
        asyncio.get_running_loop().call_soon(self.lose)

    def lose(self) -> None:
        if not self.lost and self.protocol is not None:
            self.lost = True
            self.protocol.connection_lost(None)

    @property
    def was_reset(self) -> bool:
        linger = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return linger in self.socket.options and self.calls.count("abort") >= 1
