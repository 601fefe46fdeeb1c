"""`python -m harness`."""

import sys

from harness.commands.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
