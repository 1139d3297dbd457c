"""``python -m muxwire_conformance`` is the same as ``muxwire-conformance``."""

import sys

from muxwire_conformance.cli import main

if __name__ == "__main__":
    sys.exit(main())
