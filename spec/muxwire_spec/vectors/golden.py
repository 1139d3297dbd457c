"""The permanent vectors: octets on one side, the fields that they are made of on the other.

Neither side is computed from the other, so a change of a layout cannot pass unseen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from muxwire_spec.vectors.build import END, ERROR, META, Vector, frame, preface, vector

_TRACEPARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """A permanent vector and what it is made of: a kind of frame, its header, its payload."""

    vector: Vector
    kind: str
    fields: Mapping[str, Any]
    flags: int = 0
    seq: int = 0

    def build(self) -> bytes:
        """Return the octets that the layouts make of the fields."""
        if self.kind == "PREFACE":
            return preface(**self.fields)
        return frame(self.kind, self.fields, flags=self.flags, seq=self.seq)


GOLDEN: tuple[Golden, ...] = (
    Golden(
        vector=vector(
            "V1",
            "HSK-001 HSK-003",
            bytes.fromhex(
                """
                f7 57 4d 58 0d 0a 1a 0a 01 01 20 00 00 00 00 00
                """
            ),
            "Preface of a client that offers version 1",
        ),
        kind="PREFACE",
        fields={"ver_hi": 1, "ver_lo": 1},
    ),
    Golden(
        vector=vector(
            "V2",
            "HSK-005 SET-002 FRM-012",
            bytes.fromhex(
                """
                f7 03 00 01 00 00 00 00 00 00 00 00 00 00 00 1e
                00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
                00 01 00 00 00 00 00 01 00 00 00 07 00 00 00 00
                00 00 ea 60 1a 1a 00 00 00 00 00 00 00 07
                """
            ),
            "SETTINGS with MAX_FRAME_SIZE 65,536, IDLE_TIMEOUT_MS 60,000 and grease",
            first=True,
        ),
        kind="SETTINGS",
        fields={
            "settings": [
                {"id": 0x0001, "value": 65_536},
                {"id": 0x0007, "value": 60_000},
                {"id": 0x1A1A, "value": 7},
            ]
        },
    ),
    Golden(
        vector=vector(
            "V3",
            "HSK-007 PAY-001",
            bytes.fromhex(
                """
                f7 03 00 02 00 00 00 00 00 00 00 00 00 00 00 00
                00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
                """
            ),
            "SETTINGS_ACK",
        ),
        kind="SETTINGS_ACK",
        fields={},
    ),
    Golden(
        vector=vector(
            "V4",
            "TYP-003 FRM-001 PAY-002",
            bytes.fromhex(
                """
                f7 01 05 00 00 00 00 00 00 00 00 00 00 00 00 65
                01 90 b3 f2 7c 4e 7a 11 8f 00 01 23 45 67 89 ab
                00 00 00 5f 00 00 13 88 00 01 00 01 00 10 63 6f
                6e 66 6f 72 6d 61 6e 63 65 2e 65 63 68 6f 0b 74
                72 61 63 65 70 61 72 65 6e 74 00 37 30 30 2d 30
                61 66 37 36 35 31 39 31 36 63 64 34 33 64 64 38
                34 34 38 65 62 32 31 31 63 38 30 33 31 39 63 2d
                62 37 61 64 36 62 37 31 36 39 32 30 33 33 33 31
                2d 30 31 68 69
                """
            ),
            "OPEN of conformance.echo with a header; END_STREAM, body 'hi'",
        ),
        kind="REQUEST",
        fields={
            "metadata": {
                "timeout_ms": 5_000,
                "request_flags": 0x0001,
                "subject": b"conformance.echo",
                "headers": [{"key": b"traceparent", "value": _TRACEPARENT}],
            },
            "body": b"hi",
        },
        flags=END | META,
    ),
    Golden(
        vector=vector(
            "V5",
            "FRM-001",
            bytes.fromhex(
                """
                f7 02 00 00 00 00 00 00 00 00 00 00 00 00 00 02
                01 90 b3 f2 7c 4e 7a 11 8f 00 01 23 45 67 89 ab
                68 69
                """
            ),
            "RESPONSE with the message 'hi'",
            to="client",
        ),
        kind="RESPONSE",
        fields={"data": b"hi"},
    ),
    Golden(
        vector=vector(
            "V6",
            "TYP-006 MSG-002",
            bytes.fromhex(
                """
                f7 02 01 00 00 00 00 01 00 00 00 00 00 00 00 00
                01 90 b3 f2 7c 4e 7a 11 8f 00 01 23 45 67 89 ab
                """
            ),
            "Success terminal without a message",
            to="client",
        ),
        kind="RESPONSE",
        fields={"data": b""},
        flags=END,
        seq=1,
    ),
    Golden(
        vector=vector(
            "V7",
            "TYP-004 PAY-007",
            bytes.fromhex(
                """
                f7 02 09 00 00 00 00 00 00 00 00 00 00 00 00 10
                01 90 b3 f2 7c 4e 7a 11 8f 00 01 23 45 67 89 ab
                00 00 01 04 00 01 00 00 00 fa 00 04 62 75 73 79
                """
            ),
            "Error terminal OVERLOADED, NOT_PROCESSED, retry after 250 ms",
            to="client",
        ),
        kind="RESPONSE",
        fields={
            "code": 0x104,
            "error_flags": 0x0001,
            "retry_after_ms": 250,
            "message": b"busy",
            "detail": b"",
        },
        flags=END | ERROR,
    ),
    Golden(
        vector=vector(
            "V8",
            "FLW-003 FRM-008",
            bytes.fromhex(
                """
                f7 03 00 03 00 00 00 00 00 00 00 00 00 00 00 08
                00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
                00 00 00 00 08 00 00 00
                """
            ),
            "WINDOW_UPDATE of the connection to 134,217,728",
        ),
        kind="WINDOW_UPDATE",
        fields={"limit": 134_217_728},
    ),
    Golden(
        vector=vector(
            "V9",
            "FRM-008 PAY-001",
            bytes.fromhex(
                """
                f7 03 00 05 00 00 00 00 00 00 00 00 00 00 00 04
                01 90 b3 f2 7c 4e 7a 11 8f 00 01 23 45 67 89 ab
                00 00 01 00
                """
            ),
            "KILL with the reason CANCELLED",
        ),
        kind="KILL",
        fields={"reason": 0x100},
    ),
    Golden(
        vector=vector(
            "V10",
            "HBT-002 PAY-001",
            bytes.fromhex(
                """
                f7 04 00 01 00 00 00 00 00 00 00 00 00 00 00 08
                00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
                01 02 03 04 05 06 07 08
                """
            ),
            "PING",
        ),
        kind="PING",
        fields={"opaque": bytes(range(1, 9))},
    ),
    Golden(
        vector=vector(
            "V11",
            "PAY-001 CLS-003 RID-005",
            bytes.fromhex(
                """
                f7 03 00 06 00 00 00 00 00 00 00 00 00 00 00 17
                00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
                00 00 00 00 00 00 00 00 00 00 00 03 00 00 75 30
                00 05 64 72 61 69 6e
                """
            ),
            "GOAWAY, a drain, last_ordinal 3, grace 30 s",
            to="client",
        ),
        kind="GOAWAY",
        fields={
            "code": 0,
            "last_ordinal": 3,
            "grace_ms": 30_000,
            "message": b"drain",
        },
    ),
)
