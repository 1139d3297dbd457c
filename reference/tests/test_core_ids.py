from __future__ import annotations

import uuid

from core_harness import Entropy
from muxwire.core.ids import RequestIds


def test_ids_are_distinct_random_uuids() -> None:
    ids = RequestIds(Entropy())
    made = [ids.next() for _ in range(2_000)]
    assert len(set(made)) == len(made)
    for octets in made[:300]:
        identity = uuid.UUID(bytes=octets)
        assert identity.version == 4
        assert identity.variant == uuid.RFC_4122
