"""`python -m harness`."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # A package `models` in the working folder must not stand in for the one beside this package.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from harness.commands.main import main

    sys.exit(main())
