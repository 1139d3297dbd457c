from __future__ import annotations

from muxwire.core.closing import CloseAction, Closing


def test_it_only_moves_forward() -> None:
    closing = Closing()
    closing.begin(CloseAction.CLOSE, 1.0)
    closing.begin(CloseAction.LINGER, 9.0)
    closing.begin(CloseAction.CLOSE, 9.0)
    assert (closing.action, closing.deadline) == (CloseAction.CLOSE, 1.0)
    closing.begin(CloseAction.ABORT, 9.0)
    assert (closing.action, closing.deadline) == (CloseAction.ABORT, None)


def test_every_step_has_an_end() -> None:
    closing = Closing()
    closing.begin(CloseAction.LINGER, 1.0)
    closing.expire(0.9, flushed=True)
    assert closing.action is CloseAction.LINGER
    closing.expire(1.0, flushed=True)
    assert closing.action is CloseAction.CLOSE
    closing = Closing()
    closing.begin(CloseAction.CLOSE, 1.0)
    closing.expire(1.0, flushed=False)
    assert closing.action is CloseAction.ABORT
