"""`python -m carsam`: the command line."""

import sys

from carsam.cli import main

if __name__ == "__main__":
    sys.exit(main())
