"""`python -m muxwire` is the `muxwire` command."""

from muxwire.cli import main

if __name__ == "__main__":
    main(prog_name="muxwire")
