"""Emitters: pure functions from the IR to files, and the command that writes or checks them.

An emitter returns `{path relative to the repository: octets}`. `EMITTERS` lists them all, so the
set of generated files is known and a file that no emitter makes is found (`generated.check`).
"""
