"""The muxwire conformance suite."""
