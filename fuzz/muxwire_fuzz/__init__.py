"""Fuzzers for the reference and for the judge: properties, inputs, and the loops that try them.

Rules of this package: it may import everything else here, and nothing imports it.  `harness` says
what a target is; `targets` holds one module for each.
"""
