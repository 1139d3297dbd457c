"""How the file descriptors of a process are shared out.

Rules of this file: HTTP gets a quarter and call-home connections get half, so that neither can
starve the other, and the rest of the process keeps some.
"""

from __future__ import annotations

import resource

_MOST = 65_536
"""What no limit counts as."""


def for_http() -> int:
    """Return how many HTTP connections are kept open."""
    return max(4, _limit() // 4)


def for_pool() -> int:
    """Return how many call-home connections a worker has at most."""
    return max(4, _limit() // 2)


def _limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else min(soft, _MOST)
