"""HTTP/1.1 of the model worker: one request after the other, bodies in chunks."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from model_http_request import MOST_FIELDS, Fields, RefusedError, Request, too_large

if TYPE_CHECKING:
    from model_http import Connection
    from model_http_call import Call

_FIRST = re.compile(r"([A-Z]+) (\S+) HTTP/1\.1")
DISCARDED = 65_536


class H1:
    """One connection; it is its own channel."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.server = connection.server
        self.transport = connection.transport
        self.lost = False
        self._buffer = bytearray()
        self._request: Request | None = None
        self._call: Call | None = None
        self._busy = False
        self._chunked = False
        self._left = 0
        self._body = bytearray()
        self._state = "head"
        self._close = False
        self._coded = False
        self._bodiless = False
        self._writable = asyncio.Event()
        self._writable.set()

    # In ---------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Take octets."""
        self._buffer += data
        while not self.connection.lost and not self._busy and self._step():
            pass

    def _step(self) -> bool:
        if self._state == "head":
            return self._head()
        if self._state == "length":
            return self._take(self._end_of_body)
        if self._state == "chunk":
            return self._take(self._after_chunk)
        end = self._buffer.find(b"\r\n")
        if end < 0:
            return False
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        if self._state == "size":
            self._left = int(line.partition(b";")[0] or b"0", 16)
            self._state = "chunk" if self._left else "last"
        elif self._state == "gap":
            self._state = "size"
        elif not line:
            self._end_of_body()
        return True

    def _take(self, then) -> bool:  # type: ignore[no-untyped-def]
        data = self._buffer[: self._left]
        del self._buffer[: len(data)]
        self._left -= len(data)
        if self._request is not None:
            self._body += data
            if len(self._body) > self.server.max_message:
                try:
                    too_large(self.server)
                except RefusedError as refused:
                    self._refuse(refused)
                    return False
        if not self._left:
            then()
            return True
        return bool(data)

    def _after_chunk(self) -> None:
        self._state = "gap"

    def _head(self) -> bool:
        if not self._buffer:
            return False
        self.connection.fields_begin()
        end = self._buffer.find(b"\r\n\r\n")
        large = len(self._buffer) if end < 0 else end
        if large > MOST_FIELDS and not self.server.flaw("http-any-fields"):
            self._busy = True
            self._close = True
            self.start(431, [("content-length", "0")])
            self.finish()
            return False
        if end < 0:
            return False
        self.connection.fields_complete()
        first, *lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        fields = []
        for line in lines:
            name, _, value = line.partition(":")
            fields.append((name.lower(), value.strip(" \t")))
        match = _FIRST.fullmatch(first)
        if match is None:
            self.transport.close()
            return False
        self._begin(match[1], match[2], fields)
        return True

    def _begin(self, method: str, target: str, fields: Fields) -> None:
        values = dict(fields)
        self.lost = False
        self._call, self._request = None, None
        self._coded = False
        self._bodiless = method == "HEAD"
        self._body.clear()
        self._close = "close" in values.get("connection", "").lower()
        self._chunked = "chunked" in values.get("transfer-encoding", "")
        self._left = 0 if self._chunked else int(values.get("content-length", "0"))
        self._state = "size" if self._chunked else "length"
        try:
            self._request = self.server.head(method, target, fields)
        except RefusedError as refused:
            self._refuse(refused)
            return
        if values.get("expect") == "100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not self._chunked and not self._left:
            self._end_of_body()

    def _refuse(self, refused: RefusedError) -> None:
        subject = self._request.subject if self._request is not None else ""
        self._request = None
        large = self._chunked or self._left > DISCARDED
        if large:
            self._close = True
        self._busy = True
        self.server.refuse(refused, self, subject)

    def _end_of_body(self) -> None:
        self._state = "head"
        request, self._request = self._request, None
        if request is not None:
            request.body = bytes(self._body)
            self._busy = True
            self._call = self.server.admit(request, self)

    def gone(self) -> None:
        """Take the end of the connection."""
        self.lost = True
        self._writable.set()
        if self._call is None or not self._busy:
            return
        if self.server.flaw("http-ignores-disconnect"):
            return
        if self.server.flaw("http-sees-end-when-writing"):
            return
        self._call.cancel()

    # Out --------------------------------------------------------------------------------------

    def start(self, status: int, fields: Fields) -> None:
        """Send status and fields."""
        self._coded = all(name != "content-length" for name, _value in fields)
        if self._coded and self.server.flaw("http-no-chunks"):
            self._coded, self._close = False, True
        elif self._coded:
            fields = [*fields, ("transfer-encoding", "chunked")]
        if self._close and all(name != "connection" for name, _value in fields):
            fields = [*fields, ("connection", "close")]
        lines = [f"HTTP/1.1 {status} -", *(f"{name}: {value}" for name, value in fields), "", ""]
        self.transport.write("\r\n".join(lines).encode("latin-1"))

    def write(self, data: bytes) -> None:
        """Send octets of the body."""
        if self.lost and self._call is not None:
            if not self.server.flaw("http-ignores-disconnect"):
                self._call.cancel()
            return
        if self._bodiless or not data:
            return
        if self._coded:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self.transport.write(data)

    async def room(self, limit: int) -> None:
        """Wait until the kernel takes octets again."""
        if self.transport.get_write_buffer_size() > limit:
            await self._writable.wait()
        if self.connection.lost:
            await asyncio.sleep(0)

    def finish(self) -> None:
        """End the body cleanly, and go on with the next request."""
        if self._coded and not self.lost:
            self.transport.write(b"0\r\n\r\n")
        if self._close:
            self.transport.close()
            return
        self._busy = False
        if self._state != "head" and not self._chunked and not self._left:
            self._state = "head"
        asyncio.get_running_loop().call_soon(self.feed, b"")

    def abort(self) -> None:
        """End the connection without a last chunk."""
        self.transport.abort()

    def close_after(self) -> None:
        """Close the connection behind this response."""
        self._close = True

    def writable(self, ready: bool) -> None:
        """Take what the transport says about its buffer."""
        if ready:
            self._writable.set()
        else:
            self._writable.clear()

    def buffered(self) -> int:
        """Return octets of requests that nobody has read."""
        return len(self._buffer)
