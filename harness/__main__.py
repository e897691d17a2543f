"""``python -m harness``: the command line, if no ``harness`` is on the path."""

import sys

from harness.cli.main import main

if __name__ == "__main__":
    sys.argv[0] = "harness"  # records and usage texts name the command
    sys.exit(main())
