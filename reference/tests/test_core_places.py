from __future__ import annotations

from muxwire.core.places import Places
from muxwire.core.request import ClientRequest


def requests(count: int) -> list[ClientRequest]:
    return [ClientRequest(n.to_bytes(16, "big"), 65_536, 65_536) for n in range(count)]


def test_places_are_given_in_order_of_arrival() -> None:
    places = Places()
    made = requests(5)
    places.waiting.extend(made)
    assert places.admit(2) == made[:2]
    assert places.admit(2) == []
    places.leave(made[3])
    places.leave(made[0])
    assert places.admit(2) == [made[2]]
    assert (places.taken, list(places.waiting)) == (2, [made[4]])
    assert places.admit(100) == [made[4]]


def test_leaving_without_a_place_frees_none() -> None:
    places = Places()
    (stranger,) = requests(1)
    places.leave(stranger)
    assert places.taken == 0
