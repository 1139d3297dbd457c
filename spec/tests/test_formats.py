"""The choice of a format (P1-001): the rule gives what the matrix says."""

from __future__ import annotations

import pytest
from muxwire_spec.formats import FORMATS, negotiate
from muxwire_spec.vectors.http_accept import ACCEPT


@pytest.mark.parametrize(("accept", "default", "expected"), ACCEPT)
def test_the_choice(accept: str | None, default: str, expected: str | None) -> None:
    assert negotiate(accept, default) == expected


def test_the_matrix_has_every_answer() -> None:
    types = [type_ for found in FORMATS for type_ in found.types]
    assert len(set(types)) == len(types)
    assert {expected for _, _, expected in ACCEPT} == {None, *types}
    assert {default for _, default, _ in ACCEPT} == {found.name for found in FORMATS}
