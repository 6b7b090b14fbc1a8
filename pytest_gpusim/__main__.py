"""``python -m pytest_gpusim`` is ``gpusim``."""

import sys

_INTERRUPTED = 130
_THREAD_SECONDS = 1.0


class Terminated(KeyboardInterrupt):
    """SIGTERM, as a CI sends it before it kills: what was begun is cleared away as by Ctrl-C."""

    exit_code = 143


def run() -> int:
    """The command, from its first import on: an interrupt is quiet whenever it comes."""
    try:
        sys.unraisablehook = interrupted_elsewhere
        _take_termination()
        from pytest_gpusim.cli import main

        code = main()
        _end_threads(code)
        return code
    except SystemExit as end:  # --help, --version
        _end_threads(end.code if isinstance(end.code, int) else 0)
        raise
    except KeyboardInterrupt as error:
        print("gpusim: interrupted", file=sys.stderr)
        return int(getattr(error, "exit_code", _INTERRUPTED))
    finally:
        _end_quietly()


def _take_termination() -> None:
    import signal

    def terminate(number: int, frame: object) -> None:
        raise Terminated

    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, terminate)


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


def _end_threads(code: int) -> None:
    """End the process where a thread, such as a plugin left, would keep it from ending."""
    threading = sys.modules.get("threading")
    if threading is None or threading.active_count() == 1:
        return
    import atexit
    import os

    pools = getattr(sys.modules.get("concurrent.futures.thread"), "_threads_queues", {})
    first = threading.main_thread()
    left = [t for t in threading.enumerate() if t is not first and not t.daemon and t not in pools]
    for thread in left:
        thread.join(_THREAD_SECONDS)
    names = ", ".join(repr(thread.name) for thread in left if thread.is_alive())
    if names:
        print(f"gpusim: a thread was left running and is ended: {names}", file=sys.stderr)
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _end_quietly() -> None:
    """From here on an interrupt ends the process at once: there is nothing left to clean up."""
    import signal

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(run())
