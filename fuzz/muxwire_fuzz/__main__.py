"""Let `python -m muxwire_fuzz` run the command line."""

from muxwire_fuzz.cli import main

main(prog_name="python -m muxwire_fuzz")
