"""``python -m pytest_gpusim`` is ``gpusim``."""

import sys


def run() -> int:
    """The command, from its first import on: an interrupt is quiet whenever it comes."""
    try:
        from pytest_gpusim.cli import main

        return main()
    except KeyboardInterrupt:
        print("gpusim: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(run())
