"""Progress of what takes more than a few seconds: a bar on a terminal, else a line at times.

Whoever has a loop counts with `progress`; nothing is shown of what is done within `QUIET_S`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import rich.progress

QUIET_S = 3.0
"""Nothing is said of what takes less."""
PACE_S = 10.0
"""Between two lines of a log, at first; work that lasts says less often, but once a minute."""
_SLOWEST_S, _LASTING_S = 60.0, 200.0
_TELLING = 0.03  # the share done from which on the rest can be guessed
_LONGEST = 24  # name of a bar

_Item = TypeVar("_Item")
_say: list[Callable[[str], None]] = []
_heard = [time.monotonic()]  # when a command last said something, or began


@contextmanager
def lines_to(say: Callable[[str], None]) -> Iterator[None]:
    """Let progress be lines for ``say`` while the block runs, as a pytest session wants them."""
    _say.append(say)
    try:
        yield
    finally:
        _say.remove(say)


def silent() -> AbstractContextManager[None]:
    """Let what is counted inside say nothing: whoever has it done says how far that is."""
    return lines_to(lambda line: None)


def counted(items: Iterable[_Item], what: str, total: int, unit: str) -> Iterator[_Item]:
    """The items, each counted once what follows on it is done; what that counts is not said."""
    with Progress(what, total, unit) as progress:
        for item in items:
            with silent():
                yield item
            progress.advance()


def ticked(items: Iterable[_Item], what: str, total: int, unit: str) -> Iterator[_Item]:
    """The items, each counted once what follows on it is done; for loops that do little else.

    Args:
        items: What is gone through.
        what: The work, in a word or two.
        total: How many there are; 0 where that is not known.
        unit: Of what, in the plural.
    """
    with Progress(what, total, unit) as progress:
        for item in items:
            yield item
            progress.advance()


def announce(line: str) -> None:
    """Say what is about to take more than a few seconds and cannot be counted."""
    _heard[0] = time.monotonic()
    (_say[-1] if _say else _to_stderr)(line)


class Progress:
    """Counts towards a total; a context that takes its bar away at the end.

    Args:
        what: The work, in a word or two.
        total: How much there is; 0 where that is not known.
        unit: Of what, in the plural.
        bar: Whether it may be a bar, whose thread takes time from what this process measures.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        what: str,
        total: int,
        unit: str,
        *,
        bar: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what, self._total, self._unit, self._clock = what, total, unit, clock
        self._may_draw = bar
        self._done = 0
        self._start = clock()
        self._next = self._start + QUIET_S
        if not _say:
            # Of many short works one after the other, one is told now and then.
            self._next = min(self._next, max(self._start, _heard[0] + PACE_S))
        self._bar: rich.progress.Progress | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def end(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def advance(self, count: int = 1) -> None:
        """Count so many as done."""
        self._done += count
        if self._clock() >= self._next:
            self._show()

    def reach(self, done: Callable[[], int]) -> None:
        """So many are done; asked only when it is time to say so."""
        if self._clock() >= self._next:
            self._done = done()
            if self._done:
                self._show()

    def _show(self) -> None:
        if self._may_draw and not _say and sys.stderr.isatty():
            self._draw()
            return
        announce(self._line())
        now = self._clock()
        self._next = now + min(_SLOWEST_S, PACE_S * max(1.0, (now - self._start) / _LASTING_S))

    def _line(self) -> str:
        if not self._total:
            return f"{self._what}: {self._done:,} {self._unit}"
        share = self._done / self._total
        text = f"{self._what}: {self._done:,} of {self._total:,} {self._unit}"
        # Of the first few percent, start-up may be most.
        if not _TELLING <= share < 1:
            return text
        left = (self._clock() - self._start) * (1 / share - 1)
        return f"{text}, about {duration(left)} left"

    def _draw(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        if self._bar is None:
            bar = BarColumn(bar_width=20)
            columns = (TextColumn("{task.description}", markup=False), bar, MofNCompleteColumn())
            unit = TextColumn(self._unit)
            console = Console(file=getattr(sys.stderr, "drawing", sys.stderr))
            self._bar = Bar(*columns, unit, TimeRemainingColumn(), console=console, transient=True)
            self._bar.start()
            task = self._bar.add_task(_short(self._what), total=self._total or None)
            # What was done before the bar came counts for the time that remains.
            self._bar.tasks[task].start_time = self._bar.get_time() - QUIET_S
        self._bar.update(self._bar.task_ids[0], completed=self._done)
        _heard[0] = time.monotonic()
        self._next = self._clock() + 0.1


def _short(what: str) -> str:
    """As much of it as leaves a terminal of 80 columns room for the bar and its numbers."""
    half = _LONGEST // 2
    return what if len(what) <= _LONGEST else f"{what[: half - 1]}…{what[-half:]}"


def duration(seconds: float) -> str:
    """A time to wait, as one says it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _to_stderr(line: str) -> None:
    print(f"gpusim: {line}", file=sys.stderr, flush=True)
