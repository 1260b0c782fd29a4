"""`python -m aiopyvm`: the command line."""

import sys

from aiopyvm.cli import main

if __name__ == "__main__":
    sys.exit(main())
