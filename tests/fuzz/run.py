"""``python tests/fuzz/run.py``: fuzz the doors (docs/fuzz.md)."""

import sys

from fuzz_command import main

if __name__ == "__main__":
    sys.exit(main())
