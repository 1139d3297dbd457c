"""Follow what the judge itself writes, so that automatic frames never land inside a broken one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from muxwire_conformance import wire


@dataclass(slots=True)
class Outgoing:
    """Parse the judge's own octets as the target has to parse them.

    ``on_frame`` is called for every complete header written, with the payload so far known.
    """

    on_frame: Callable[[int, int, int, int, bytes, bytes], None]
    preface_done: bool = False
    _head: bytearray = field(default_factory=bytearray)
    _body_left: int = 0
    _lost: bool = False

    @property
    def between_frames(self) -> bool:
        """Tell whether a further frame written now would be read as a frame."""
        return self.preface_done and not self._head and self._body_left == 0 and not self._lost

    def feed(self, data: bytes) -> None:
        """Take octets just queued for writing."""
        position = 0
        while position < len(data) and not self._lost:
            if self._body_left:
                step = min(self._body_left, len(data) - position)
                self._body_left -= step
                position += step
                continue
            want = wire.HEADER_SIZE if self.preface_done else wire.PREFACE_SIZE
            step = min(want - len(self._head), len(data) - position)
            self._head += data[position : position + step]
            position += step
            if len(self._head) < want:
                return
            head = bytes(self._head)
            self._head.clear()
            if not self.preface_done:
                self.preface_done = head[:8] in (wire.MAGIC, wire.WCH_MAGIC)
                self._lost = not self.preface_done
                continue
            length = int.from_bytes(head[8:16], "big")
            self._body_left = length
            self.on_frame(
                head[1],
                head[3],
                head[2],
                length,
                head[16:32],
                data[position : position + min(length, 4_096)],
            )
