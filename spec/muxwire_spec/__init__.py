"""The machine-readable specification of WMX/1.

`frames`, `registries`, `machines` and `profiles` are the specification: data, written by people.
`model` and `lower` turn it into one intermediate representation, `emit` turns that into files.
`interpret` reads octets with the specification itself and is the oracle for everything generated.
"""

from muxwire_spec.model import Spec
from muxwire_spec.spec import load_spec

__all__ = ["Spec", "load_spec"]
