"""What an engine's finished steps leave behind: whole numbers in arrays, not an object a step."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_gpusim.serving import Request
    from pytest_gpusim.serving.step import PrefillChunk
    from pytest_gpusim.simulators.engine import TimedStep

_UNTIMED = -1  # of a step that the step-time model was not asked about
_WIDTH = 10
_START, _DURATION, _PREFILLS, _DECODES, _SEQUENCES, _EXTRAPOLATED = 0, 1, 2, 3, 4, 9


class StepLog:
    """The finished steps of one engine, in order.

    A run of millions of steps is kept in some 150 bytes a step; batches that did not change are
    kept once.
    """

    def __init__(self) -> None:
        self._table = array("q")  # by step: start, duration, then as in `rows`
        self._kinds = array("d")  # by step that the model timed: `StepTime` from ``prefill_ns`` on
        self._batches: list[Sequence[Request]] = []
        self._chunks: dict[int, Sequence[PrefillChunk]] = {}

    def __len__(self) -> int:
        return len(self._batches)

    def add(self, timed: TimedStep) -> None:
        """Note a step that has ended."""
        step, time = timed.step, timed.time
        if step.prefills:
            self._chunks[len(self._batches)] = step.prefills
        self._batches.append(step.requests)
        self._table.extend(
            (
                timed.start_ns,
                timed.end_ns - timed.start_ns,
                step.num_prefill_tokens,
                step.num_decodes,
                len(step.requests),
                step.num_running,
                step.num_waiting,
                step.num_blocks_used,
                timed.num_preempted,
                _UNTIMED if time is None else time.extrapolated,
            )
        )
        if time is not None:
            self._kinds.extend(time[2:])

    @property
    def busy_ns(self) -> int:
        """The time of all steps together."""
        return sum(self._column(_DURATION))

    @property
    def end_ns(self) -> int:
        """When the last step ended; 0 without any."""
        if not self._batches:
            return 0
        return self._table[-_WIDTH + _START] + self._table[-_WIDTH + _DURATION]

    @property
    def num_sequences(self) -> int:
        """Batch sizes of all steps, added up."""
        return sum(self._column(_SEQUENCES))

    @property
    def num_extrapolated(self) -> int:
        """Steps that left the profile."""
        return self._column(_EXTRAPOLATED).count(1)

    def starts(self) -> array[int]:
        """When each step began."""
        return self._column(_START)

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Rows of ``step_metrics.csv`` without their number."""
        table = self._table
        for place in range(0, len(table), _WIDTH):
            row = tuple(table[place : place + _WIDTH])
            yield row if row[-1] != _UNTIMED else (*row[:-1], None)

    def batches(self) -> Iterator[Mapping[Any, int]]:
        """Tokens by request id; the same mapping while the same requests decode."""
        batch: dict[Any, int] = {}
        decoding: object = None
        for number, requests in enumerate(self._batches):
            chunks = self._chunks.get(number)
            if chunks or requests is not decoding:
                batch = {request.request_id: 1 for request in requests}
                for chunk in chunks or ():
                    batch[chunk.request.request_id] = chunk.num_tokens
                decoding = None if chunks else requests
            yield batch

    def times(self) -> Iterator[tuple[int, int, Sequence[float]]]:
        """Tokens, sequences, and the times of `StepTime` from ``prefill_ns`` on, of each step.

        Of an engine whose steps the model timed.
        """
        prefills, decodes = self._column(_PREFILLS), self._column(_DECODES)
        kinds = zip(*(self._kinds[kind::4] for kind in range(4)), strict=True)
        tokens = map(int.__add__, prefills, decodes)
        return zip(tokens, self._column(_SEQUENCES), kinds, strict=True)

    def _column(self, place: int) -> array[int]:
        return self._table[place::_WIDTH]
