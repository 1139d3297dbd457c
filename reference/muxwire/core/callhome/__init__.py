"""WCH/1 without input and output: both ends of a call-home connection, and its streams.

Rules of this package: it is a part of the core, so time is a parameter and nothing waits.  A
connection carries one stream after another; each has a table of its own, and whatever happens is
looked up there.
"""

from muxwire.core.callhome.connection import CallHome
from muxwire.core.callhome.router import RouterEnd
from muxwire.core.callhome.router_stream import RouterStream
from muxwire.core.callhome.worker import WorkerEnd
from muxwire.core.callhome.worker_stream import WorkerStream

__all__ = ["CallHome", "RouterEnd", "RouterStream", "WorkerEnd", "WorkerStream"]
