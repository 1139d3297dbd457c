from __future__ import annotations

from typing import Any

import pytest
from muxwire.core.config import Config
from muxwire.core.settings import Settings
from muxwire.errors import InvalidArgument


@pytest.mark.parametrize(
    "changes",
    [
        {"handshake_timeout": 0.9},
        {"handshake_timeout": 15.1},
        {"connect_timeout": 0.0},
        {"connect_timeout": 15.1},
        {"linger": 0.0},
        {"linger": 1.1},
        {"kill_deadline": 1.0},
        {"send_buffer": 0},
        {"send_buffer": 1_048_577},
        {"retry_after_ms": 0},
        {"slow_consumer": 0.0},
        {"drain_grace": -1.0},
        {"drained_wait": -1.0},
        {"settings": Settings.recommended(max_frame_size=1)},
    ],
)
def test_values_outside_the_specification_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        Config(**changes)


def test_the_defaults_are_the_recommended_ones() -> None:
    assert Config().settings == Settings.recommended()
