from __future__ import annotations

import pytest
from muxwire._generated import codec
from muxwire.core.metadata import open_metadata, opening_fits, response_metadata, trailers_fit
from muxwire.core.settings import Settings
from muxwire.errors import InvalidArgument


def test_a_block_is_what_the_decoder_reads() -> None:
    block = open_metadata(7, 1, b"a.b", [(b"k", b"v")])
    assert codec.decode_open(block + b"body", 100) == (7, 1, b"a.b", [(b"k", b"v")], b"body")
    block = response_metadata([(b"k", b"v")])
    assert codec.decode_response_meta(block + b"x", 100) == ([(b"k", b"v")], b"x")


@pytest.mark.parametrize(
    "headers", [[(b"K", b"")], [(b"k", b"\r")], [(b"k" * 256, b"")], [(b"k", b"v" * 70_000)]]
)
def test_what_would_be_refused_is_refused_here(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(InvalidArgument, match="request"):
        open_metadata(0, 0, b"a", headers)
    with pytest.raises(InvalidArgument, match="headers"):
        response_metadata(headers)


def test_blocks_keep_the_smallest_of_the_peer_s_limits() -> None:
    wide = Settings.recommended(
        max_metadata_size=65_536, max_frame_size=65_536, initial_stream_window=65_536
    )
    assert opening_fits(bytes(65_504), wide)
    assert not opening_fits(bytes(65_505), wide)  # the stream window
    assert trailers_fit(bytes(32_736), wide)
    assert not trailers_fit(bytes(32_737), wide)
    floor = Settings.assumed()
    assert opening_fits(bytes(8_196), floor)
    assert not opening_fits(bytes(8_197), floor)
    narrow = Settings.recommended(max_metadata_size=65_536, max_frame_size=16_384)
    assert opening_fits(bytes(16_384), narrow)
    assert not opening_fits(bytes(16_385), narrow)
