"""``python -m cnnlib``, and the command ``cnnlib``."""

import sys

from cnnlib.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
