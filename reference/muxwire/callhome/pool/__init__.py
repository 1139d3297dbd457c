"""A pool of connections to any number of targets, usable by itself.

Give it a function that dials, and borrow::

    pool = Pool(dial, PoolConfig(max_per_target=50))
    with await pool.acquire("127.0.0.1:7000") as connection:
        ...                                   # an exception discards it, a normal end returns it
    await pool.drain(5.0)
"""

from muxwire.callhome.pool.config import PoolConfig
from muxwire.callhome.pool.member import Lease, Poolable
from muxwire.callhome.pool.pool import Pool
from muxwire.callhome.pool.statistics import LATENCY_BOUNDS, Closed, TargetStatistics

__all__ = [
    "LATENCY_BOUNDS",
    "Closed",
    "Lease",
    "Pool",
    "PoolConfig",
    "Poolable",
    "TargetStatistics",
]
