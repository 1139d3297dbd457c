"""A response that is the body of an HTTP answer: readers of the three formats, and its outcome.

Rules of this package: octets in, events out, whatever HTTP library brings them (chapter 22).
"""

from __future__ import annotations

from collections.abc import Callable

from muxwire.core.http.binary import BinaryReader
from muxwire.core.http.ndjson import NdjsonReader
from muxwire.core.http.reading import Done, Failed, Headers, Reader
from muxwire.core.http.response import Response
from muxwire.core.http.sse import SseReader

__all__ = [
    "READERS",
    "BinaryReader",
    "Done",
    "Failed",
    "Headers",
    "NdjsonReader",
    "Reader",
    "Response",
    "SseReader",
]

READERS: dict[str, Callable[[int], Reader]] = {
    "sse": SseReader,
    "ndjson": NdjsonReader,
    "binary": BinaryReader,
}
"""What reads each format; the argument is the largest item in octets."""
