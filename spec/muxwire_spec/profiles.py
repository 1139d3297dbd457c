"""The named numbers of the specification: sizes, times, budgets.

Times that an operator may change say so in their text; everything else is fixed.
"""

from __future__ import annotations

from muxwire_spec import frames
from muxwire_spec.model import Constant

MAX_LIMIT = 2**63 - 1


def _constant(name: str, value: int, unit: str, doc: str) -> Constant:
    return Constant(name=name, value=value, unit=unit, doc=doc)


STANDARD: tuple[Constant, ...] = (
    _constant(
        "CONTROL_PAYLOAD_LIMIT",
        frames.CONTROL_PAYLOAD_LIMIT,
        "octets",
        "Largest payload of CONTROL and HEARTBEAT",
    ),
    _constant("MAX_SETTINGS", frames.MAX_SETTINGS, "settings", "Settings in one SETTINGS"),
    _constant("MAX_HEADERS", frames.MAX_HEADERS, "headers", "Headers in one metadata block"),
    _constant("MAX_ERROR_MESSAGE", frames.MAX_ERROR_MESSAGE, "octets", "Message of an error body"),
    _constant("MAX_ERROR_BODY", frames.MAX_ERROR_BODY, "octets", "A whole error body"),
    _constant("FRAME_COST", 32, "cost units", "Cost of a REQUEST or RESPONSE without its payload"),
    _constant("MAX_LIMIT", MAX_LIMIT, "cost units", "Highest value of a WINDOW_UPDATE"),
    _constant("MAX_SEQ", 2**32 - 2, "frames", "Highest seq of a stream direction"),
    _constant("HANDSHAKE_TIMEOUT_MS", 5_000, "ms", "Set-up; configurable 1,000 to 15,000"),
    _constant("CONNECT_TIMEOUT_MS", 5_000, "ms", "Dial to the worker's preface; configurable"),
    _constant("PENDING_HANDSHAKES", 128, "connections", "Without a preface; configurable"),
    _constant("KILL_DEADLINE_MS", 1_000, "ms", "KILL to the terminal"),
    _constant("LINGER_MS", 1_000, "ms", "Input read and discarded after an error GOAWAY"),
    _constant("ORPHAN_DEADLINE_MS", 1_000, "ms", "Lost connection to its handlers' end"),
    _constant("DRAIN_GRACE_MS", 30_000, "ms", "Drain on a stop signal; configurable"),
    _constant("DRAINED_CLOSE_MS", 2_000, "ms", "Client: last request of a drained connection"),
    _constant("BATCH_DELAY_MS", 2, "ms", "Longest delay of a ready frame"),
    _constant("BATCH_SIZE", 65_536, "octets", "Frames written together"),
    _constant("QUANTUM", 65_536, "octets", "Payload that a stream sends in its turn"),
    _constant("SEND_BUFFER", 1_048_576, "cost units", "Unsent output of a stream, or one message"),
    _constant("CONTROL_BUFFER", 1_048_576, "octets", "Queued control output of a connection"),
    _constant("TOMBSTONES", 1_024, "requests", "Ended requests remembered per connection"),
    _constant("TOMBSTONE_MS", 10_000, "ms", "Shortest memory of one, unless pushed out"),
    _constant("SLOW_CONSUMER_MS", 60_000, "ms", "Blocked on client credit; configurable"),
    _constant("MAX_UNANSWERED_PINGS", 8, "PINGs", "Per direction"),
    _constant("PING_BURST", 50, "PINGs", "Tolerated at once"),
    _constant("PING_RATE", 10, "per second", "Tolerated, or PING_RATE_MS / IDLE_TIMEOUT_MS"),
    _constant("PING_RATE_MS", 4_000, "ms", "See PING_RATE"),
    _constant("GLITCH_BURST", 100, "glitches", "Tolerated at once"),
    _constant("GLITCH_RATE", 50, "per second", "Tolerated"),
    _constant("REFUSAL_BURST", 1_000, "refusals", "Tolerated at once"),
    _constant("REFUSAL_RATE", 500, "per second", "Tolerated"),
    _constant("BACKOFF_BASE_MS", 100, "ms", "Reconnect: first bound, doubled each time"),
    _constant("BACKOFF_CAP_MS", 10_000, "ms", "Reconnect: last bound"),
    _constant("MAX_ATTEMPTS", 3, "attempts", "Of one request"),
)
