"""Emitters: pure functions from the IR to files, and what they share.

An emitter returns `{path relative to the repository: octets}`. Those that the prose has a part in
get its text as well. `generated.expected` calls them all, so the set of generated files is known
and a file that no emitter makes is found.
"""
