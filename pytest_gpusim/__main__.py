"""``python -m pytest_gpusim`` is ``gpusim``."""

import sys

_INTERRUPTED = 130


def run() -> int:
    """The command, from its first import on: an interrupt is quiet whenever it comes."""
    try:
        sys.unraisablehook = interrupted_elsewhere
        from pytest_gpusim.cli import main

        return main()
    except KeyboardInterrupt:
        print("gpusim: interrupted", file=sys.stderr)
        return _INTERRUPTED
    finally:
        _end_quietly()


def interrupted_elsewhere(failure: "sys.UnraisableHookArgs") -> None:
    """An interrupt that came where nothing can be raised, such as in a lock of an import, again.

    Python drops it there, with a traceback; a moment later it meets what the command does.
    """
    if not isinstance(failure.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(failure)
        return
    import _thread
    import threading

    threading.Timer(0.01, _thread.interrupt_main).start()


def _end_quietly() -> None:
    """From here on an interrupt ends the process at once: there is nothing left to clean up."""
    import signal

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(run())
