"""Stepping an engine by hand: requests in, stamped tokens and steps out."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter_ns, process_time_ns
from typing import Any, NamedTuple

from pytest_gpusim.vllm_runtime.engine import core
from pytest_gpusim.vllm_runtime.observer import PlannedStep


class Finished(NamedTuple):
    """A request that left the engine, and vLLM's reason."""

    request_id: int
    reason: str


class StepResult(NamedTuple):
    """What one call of `Driver.step` brought. Times of `perf_counter_ns`.

    ``tokens``: (request id, token ids) for each request that got some, all at ``end_ns``.
    ``cpu_ns``: what all threads of the process computed meanwhile.
    """

    start_ns: int
    end_ns: int
    cpu_ns: int
    steps: list[PlannedStep]
    tokens: list[tuple[int, list[int]]]
    finished: list[Finished]


class Driver:
    """An engine with requests known by our own integer ids."""

    def __init__(self, engine: Any) -> None:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        self.engine = engine
        self.scheduler = core(engine).scheduler
        self._sampling = SamplingParams
        self._delta = RequestOutputKind.DELTA
        self._serial = 0
        self._ids: dict[str, int] = {}  # internal ids and those we gave, to ours
        self._previous_end = 0
        self.tokens_seen: set[int] = set()  # sizes of steps that had their first use

    def next_serial(self) -> int:
        """A number that was not given out before."""
        self._serial += 1
        return self._serial

    def add(self, request_id: int, token_ids: Sequence[int], max_tokens: int) -> str:
        """Hand a request over; returns the engine's id of it. Raises what vLLM raises."""
        given = f"{self.next_serial()}-{request_id}"
        params = self._sampling(
            max_tokens=max_tokens,
            ignore_eos=True,
            temperature=0.0,
            detokenize=False,
            output_kind=self._delta,
        )
        self._ids[given] = request_id
        prompt = {"prompt_token_ids": list(token_ids)}
        internal = str(self.engine.add_request(given, prompt, params) or given)
        self._ids[internal] = request_id
        return internal

    def our_id(self, internal: str) -> int:
        """Our id of a request that the engine names."""
        return self._ids[internal]

    @property
    def busy(self) -> bool:
        """Whether a step is needed."""
        return bool(self.engine.has_unfinished_requests())

    def step(self) -> StepResult:
        """One iteration of the engine; everything in it gets the one stamp at its end."""
        start, computed = perf_counter_ns(), process_time_ns()
        outputs = self.engine.step()
        tokens: list[tuple[int, list[int]]] = []
        finished: list[Finished] = []
        for output in outputs:
            request_id = self._ids[output.request_id]
            completion = output.outputs[0]
            if completion.token_ids:
                tokens.append((request_id, [int(token) for token in completion.token_ids]))
            if output.finished:
                finished.append(Finished(request_id, str(completion.finish_reason)))
        steps, self.scheduler.watch.done = self.scheduler.watch.done, []
        end, computed = perf_counter_ns(), process_time_ns() - computed
        if steps and self.scheduler.watch.in_flight:
            # Asynchronous: this step was planned a call ago, and ran once the one before it ended.
            start = max(steps[0].planned_ns, self._previous_end)
        self._previous_end = end
        return StepResult(start, end, computed, steps, tokens, finished)

    def abandon(self) -> None:
        """Abort whatever is left, and let the engine settle."""
        for watch_id in list(self.scheduler.requests):
            self.engine.abort_request([watch_id], internal=True)
        while self.busy:
            self.engine.step()
        self.scheduler.watch.in_flight.clear()
        self.scheduler.watch.done.clear()
        self._ids.clear()

    def reset_prefix_cache(self) -> bool:
        """Forget every cached block; False where one is still held."""
        return bool(self.engine.reset_prefix_cache())
