"""``python -m pytest_gpusim`` is ``gpusim``."""

import sys

from pytest_gpusim.cli import main

if __name__ == "__main__":
    sys.exit(main())
