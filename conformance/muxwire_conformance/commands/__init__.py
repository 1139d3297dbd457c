"""The subcommands of ``muxwire-conformance``, one module each.

Rules of this package:

* A module has one function, ``add``, which adds its parser; the parser's default ``run`` takes the
  parsed arguments and returns the exit code.
* What several commands share (selection, target, run and output options) is in ``options``.
"""
