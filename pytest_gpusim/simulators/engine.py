"""A serving engine in simulated time: vLLM's rules and profiled step times, step by step.

Simulators differ in what drives it (a bare loop, Vidur's event queue), so they plan the same
batches and give the same token times. All times are whole ns from the workload's start. For a
client's clock a front end lies between the engine and its client.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.deployment.resolution import resolve_settings
from pytest_gpusim.errors import EngineError, UsageError
from pytest_gpusim.progress import Progress
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.serving import BlockKeys, Request, Scheduler, SchedulingRules, Step
from pytest_gpusim.serving.frontend import Frontend
from pytest_gpusim.serving.steptime import StepFeatures, StepTime, StepTimeModel
from pytest_gpusim.simulators.frontend_client import FrontendClient
from pytest_gpusim.simulators.steplog import StepLog
from pytest_gpusim.workload import WorkloadRequest
from pytest_gpusim.workload.client import LoadClient

_MOST_EMPTY_STEPS = 10_000


@dataclass(slots=True)
class TimedStep:
    """A planned step and what became of it.

    Attributes:
        step: What it computes.
        features: What its time depends on.
        planned_ns: When it was planned; with asynchronous scheduling one step before it starts.
        start_ns, end_ns: When it ran; -1 before.
        time: Its time, where the step-time model gave it.
        spans: (tokens, context) of each of its requests, where the engine keeps them.
        num_preempted: Requests that lost their blocks in it, or in empty steps just before it.
    """

    step: Step
    features: StepFeatures
    planned_ns: int
    start_ns: int = -1
    end_ns: int = -1
    time: StepTime | None = None
    spans: list[tuple[int, int]] | None = None
    num_preempted: int = 0


@dataclass
class ServingEngine:
    """Plans, times and finishes steps; remembers them all in little memory.

    Call `arrive_due` for what its client sends up to now, then `next_step`; run what it returns,
    which starts now, and call `finish`. While `next_step` returns None there is nothing to do until
    the next request.
    """

    rules: SchedulingRules
    model: StepTimeModel
    keys: dict[int, tuple[int, ...]]
    client: LoadClient | FrontendClient
    frontend: Frontend = field(default_factory=Frontend)
    keeps_spans: bool = False
    requests: dict[int, Request] = field(default_factory=dict)
    log: StepLog = field(default_factory=StepLog)
    planned_at: array[int] = field(default_factory=lambda: array("q"))
    ended_at: array[int] = field(default_factory=lambda: array("q"))
    progress: Progress | None = None

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(self.rules)
        self._pending: deque[TimedStep] = deque()
        self._preempted_before = 0

    @classmethod
    def of_inputs(cls, inputs: SimulationInputs) -> ServingEngine:
        """The engine that ``inputs`` describe.

        Raises:
            UsageError: Its settings are incomplete or contradict each other.
            InputError: The bundle does not fit them.
        """
        settings = inputs.engine
        rules = SchedulingRules.for_release(engine_version(inputs), settings)
        model = StepTimeModel(inputs.bundle, inputs.model, settings)
        keys = _block_keys(inputs, rules)
        if inputs.clock == "client":
            frontend = Frontend.of_bundle(inputs.bundle)
            return cls(rules, model, keys, FrontendClient(inputs.workload, frontend), frontend)
        return cls(rules, model, keys, LoadClient.of(inputs.workload))

    def arrive_due(self, now_ns: int) -> None:
        """Put what the client sends by now into the engine's queue."""
        for request in self.client.take(now_ns):
            self.arrive(request)

    def arrive(self, request: WorkloadRequest) -> None:
        """Put a request into the engine's queue."""
        self.requests[request.request_id] = self.scheduler.add_request(
            request.request_id,
            request.num_prefill_tokens,
            request.num_decode_tokens,
            self.keys.get(request.prompt_id),
        )

    def next_step(self, now_ns: int) -> TimedStep | None:
        """The step that starts now; None when all that arrived is done.

        Asynchronous: the step after it is planned too, as ``EngineCore.step_with_batch_queue``
        does (``vllm/v1/engine/core.py``). Empty steps take no time and are not returned.
        """
        scheduler, pending = self.scheduler, self._pending
        capacity = 2 if self.rules.async_scheduling else 1
        for _ in range(_MOST_EMPTY_STEPS):
            while len(pending) < capacity and scheduler.num_unfinished:
                step = scheduler.schedule()
                timed = TimedStep(step, self.model.features(step), now_ns)
                if self.keeps_spans:
                    timed.spans = step.spans()
                pending.append(timed)
                self.planned_at.append(now_ns)
            if not pending:
                return None
            timed = pending.popleft()
            timed.start_ns = now_ns
            step = timed.step
            self._preempted_before += len(step.preempted)
            if step.num_decodes or step.num_prefill_tokens:
                timed.num_preempted, self._preempted_before = self._preempted_before, 0
                return timed
            self._complete(timed, now_ns)
        raise EngineError(
            f"the scheduler planned {_MOST_EMPTY_STEPS} empty steps in a row with "
            f"{scheduler.num_unfinished} requests left: raise num_gpu_blocks"
        )

    def time(self, timed: TimedStep) -> StepTime:
        """What the step-time model says of a step."""
        if timed.time is None:
            timed.time = self.model.time(timed.features)
        return timed.time

    def finish(self, timed: TimedStep, end_ns: int) -> int:
        """End the running step: its tokens are out, and the client has them.

        Returns how many requests ended with it.
        """
        finished = self._complete(timed, end_ns)
        self.log.add(timed)
        if not finished:
            return 0
        for request in finished:
            self.client.done(cast("int", request.request_id), end_ns)
        if self.progress is not None:
            self.progress.advance(len(finished))
        return len(finished)

    def _complete(self, timed: TimedStep, end_ns: int) -> Sequence[Request]:
        """Deliver a step's tokens; returns the requests that finished, in batch order."""
        timed.end_ns = end_ns
        try:
            self.ended_at.append(end_ns)
        except OverflowError:
            raise UsageError(
                "simulated time goes beyond 292 years (64 bits of ns): look for the profile's "
                "steps that take so long with 'gpusim check'"
            ) from None
        return self.scheduler.complete(timed.step).finished


def engine_version(inputs: SimulationInputs) -> str | None:
    """The release whose rules are followed: that of the settings, else the profiled one."""
    version: str | None = inputs.engine.engine_version
    if version is None and inputs.bundle.meta.get("engine") == "vllm":
        version = inputs.bundle.meta.get("engine_version")
    return version


def complete_settings(inputs: SimulationInputs) -> EngineSettings:
    """The settings, with the bundle's, then vLLM's defaults, for what they do not state.

    Raises:
        InputError: A limit is missing and cannot be had.
    """
    bundle, profile = inputs.bundle, inputs.bundle.engine_settings
    if bundle.meta.get("engine") != "vllm":
        # Another engine's, or a data collection's, release says nothing of the one simulated.
        profile = replace(profile, engine_version=None)
    return resolve_settings(
        inputs.engine,
        model=inputs.model,
        hardware=inputs.hardware,
        profile=profile,
        device_name=bundle.meta.get("device_name"),
        where=bundle.path,
    )


def _block_keys(inputs: SimulationInputs, rules: SchedulingRules) -> dict[int, tuple[int, ...]]:
    """The content of each prompt's full blocks, for prompts that may share some."""
    from pytest_gpusim.workload.token_ids import sharing_sequences

    if not rules.enable_prefix_caching:
        return {}
    keys = BlockKeys(rules.block_size)
    shared = sharing_sequences(inputs.workload, inputs.model.vocab_size)
    return {prompt_id: keys.chain(ids) for prompt_id, ids in shared.items()}
