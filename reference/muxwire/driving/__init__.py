"""The reference client behind the driver protocol wmx-driver/1 (section 19.4)."""

from muxwire.driving.session import Session

__all__ = ["Session"]
