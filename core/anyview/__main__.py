"""`python -m anyview` is `anyview`."""

import sys

from anyview.cli import main

if __name__ == "__main__":
    sys.exit(main())
