"""`python -m declora` is `declora`."""

import sys

from declora.cli import main

if __name__ == "__main__":
    sys.exit(main())
