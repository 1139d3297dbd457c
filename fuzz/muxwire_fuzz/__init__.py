"""The muxwire fuzzers."""
