"""Compare `pytest_gpusim.serving.Scheduler` with vLLM's own scheduler, step by step.

    python -m tests.serving.vllm_equivalence --workloads 1000 --seed 0 [--closed]

Drives vLLM's ``Scheduler`` or ``AsyncScheduler`` without a model, on randomly drawn settings and
workloads, beside ours: same arrivals, same tokens. With ``--closed`` a client sends under a limit,
and turns of conversations after the answers before them, as it gets them. Every step must agree in
the batch and its order, each request's tokens, what was preempted, admitted and found in the prefix
cache, the contexts, who got a token, who finished, the free blocks and the lengths of the queues.
Exit code 0: no difference; 1: a difference, with the smallest workload found that still shows it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import sys
import tempfile
import time
from collections import deque
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.serving import (
    BlockKeys,
    Request,
    Scheduler,
    SchedulingRules,
    Step,
    release_is_known,
)
from pytest_gpusim.workload import Load, SessionTurn, WorkloadRequest
from pytest_gpusim.workload.client import LoadClient

_MODEL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "vocab_size": 1000,
    "max_position_embeddings": 100_000,
    "torch_dtype": "float32",
}
_OWN_TOKENS = 10_000  # token ids from here on are given out once


@dataclass(frozen=True)
class DrawnRequest:
    """A request of a drawn workload.

    ``prompt`` None: ``num_prompt_tokens`` ids that nobody else has; ``output`` None: likewise.
    Our scheduler is told the ids that are stated, and no others. Requests of one ``session`` follow
    each other, ``think`` planned steps after the answer. A ``refused`` one reaches neither engine.
    """

    prompt: tuple[int, ...] | None
    num_prompt_tokens: int
    max_tokens: int
    output: tuple[int, ...] | None
    arrival: int  # how many steps are planned before it arrives
    session: int | None = None
    think: int = 0
    refused: bool = False


@dataclass(frozen=True)
class Case:
    """Settings and a workload; before the steps in ``stalls`` the engine has nothing in flight.

    ``closed``: requests are sent by a client that knows ``limit`` and sessions.
    """

    settings: EngineSettings
    requests: tuple[DrawnRequest, ...]
    stalls: frozenset[int] = frozenset()
    closed: bool = False
    limit: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What one case showed; ``difference`` is the first one, in words."""

    steps: int
    tokens: int
    preemptions: int
    cached_tokens: int
    difference: str | None


def draw_case(seed: int) -> Case:
    """A random case: small caches, shared prefixes, both modes, every setting that we model."""
    rng = random.Random(seed)
    block_size = rng.choice([1, 2, 4, 8, 16, 16, 32])
    max_num_seqs = rng.choice([1, 2, 3, 5, 8, 16, 40])
    longest_prompt = rng.choice([1, 3, 5]) * block_size + rng.randint(1, 60)
    longest_output = rng.choice([1, 4, 20, 60])
    longest = longest_prompt + longest_output
    max_model_len = longest - rng.choice([0, 0, rng.randint(0, longest_output - 1)])
    needed = -(-(max_model_len - 1) // block_size)
    settings = EngineSettings(
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max(max_num_seqs, rng.choice([1, 8, 20, 64, 256, 2048])),
        max_model_len=max_model_len,
        block_size=block_size,
        num_gpu_blocks=1 + needed + rng.choice([0, 1, needed, 3 * needed, 20 * needed]),
        enable_prefix_caching=rng.random() < 0.85,
        async_scheduling=rng.random() < 0.5,
        long_prefill_token_threshold=min(rng.choice([0, 0, 0, 1, 5, 16, 50]), max_model_len),
        scheduler_reserve_full_isl=rng.random() < 0.7,
    )
    vocabulary = rng.choice([2, 900])
    sharing = rng.choice([0.0, 0.5, 0.9])
    known_output = rng.choice([0.0, 0.0, 0.3, 1.0])
    gap = rng.choice([0, 0, 1, 4, 30])

    def some_ids(count: int) -> tuple[int, ...]:
        return tuple(rng.randrange(vocabulary) for _ in range(count))

    prefixes = [some_ids(rng.randint(1, longest_prompt)) for _ in range(rng.randint(1, 4))]
    drawn: list[DrawnRequest] = []
    arrival = 0
    for _ in range(rng.choice([1, 5, 15, 40, 100])):
        arrival += rng.randint(0, gap)
        max_tokens = rng.randint(1, longest_output)
        output = some_ids(max_tokens) if rng.random() < known_output else None
        room = min(longest_prompt, max_model_len - 1)
        prompt: tuple[int, ...] | None = some_ids(rng.randint(1, room))
        if rng.random() < sharing:
            earlier = rng.choice(drawn) if drawn else None
            if earlier and earlier.prompt and rng.random() < 0.3:  # a conversation goes on
                prompt = earlier.prompt + (earlier.output or ()) + prompt
            else:
                prompt = rng.choice(prefixes) + prompt * rng.randint(0, 1)
            prompt = prompt[:room]
        elif output is None and rng.random() < 0.7:
            prompt = None
        length = len(prompt) if prompt else rng.randint(1, room)
        drawn.append(DrawnRequest(prompt, length, max_tokens, output, arrival))
    stall = rng.choice([0.0, 0.0, 0.1])
    stalls = frozenset(step for step in range(3000) if rng.random() < stall)
    return Case(settings, tuple(drawn), stalls)


def draw_closed_case(seed: int) -> Case:
    """A random case as of `draw_case`, sent under a limit, in conversations, or both.

    Half of them are odd ones: refused requests in the middle, more clients than requests, all
    arrivals at one of two instants, turns that end at the edge of a block, and hardly any blocks.
    """
    case = draw_case(seed)
    rng = random.Random(f"closed:{seed}")
    odd = rng.random() < 0.5
    two_instants, edges, tight = (odd and rng.random() < 0.5 for _ in range(3))
    refused = rng.choice([0.0, 0.1, 0.4]) if odd else 0.0
    size = case.settings.block_size
    if tight:
        needed = -(-(case.settings.max_model_len - 1) // size)
        case = replace(case, settings=replace(case.settings, num_gpu_blocks=1 + needed))
    at_once, chats = rng.random() < 0.5, rng.choice([0.0, 0.4, 0.8])
    limit = rng.choice([1, 2, 3, 5, 8, 30] if not chats else [None, None, 1, 2, 4, 12])
    if odd and limit and rng.random() < 0.3:
        limit = len(case.requests) + rng.randint(1, 9)
    think = rng.choice([0, 0, 3, 40])
    room = max(len(request.prompt or ()) for request in case.requests)
    context: dict[int, tuple[int, ...]] = {}  # by session: prompt and answer so far
    drawn: list[DrawnRequest] = []
    for request in case.requests:
        if at_once:
            request = replace(request, arrival=0)
        if two_instants:
            request = replace(request, arrival=rng.choice([0, 7]))
        request = replace(request, refused=rng.random() < refused)
        if rng.random() < chats:
            going_on = bool(context) and rng.random() < 0.7
            session = rng.choice(list(context)) if going_on else len(context)
            prompt = request.prompt or tuple(rng.randrange(900) for _ in range(3))
            # A context that has no room left makes way for a prompt of its own.
            longer = context.get(session, ()) + prompt
            prompt = longer if len(longer) <= room else prompt
            count = request.max_tokens
            if edges:  # prompt and answer fill their blocks, or are a token short or long
                count = max(1, count - (len(prompt) + count + rng.choice([-1, 0, 1])) % size)
                request = replace(request, max_tokens=count)
            output = (request.output or tuple(rng.randrange(900) for _ in range(count)))[:count]
            context[session] = prompt + output
            request = replace(
                request,
                prompt=prompt,
                num_prompt_tokens=len(prompt),
                output=output,
                session=session,
                think=rng.randint(0, think),
            )
        drawn.append(request)
    if two_instants:  # a client's requests are in order of arrival
        drawn.sort(key=lambda request: request.arrival)
    return replace(case, requests=tuple(drawn), closed=True, limit=limit)


def turns_of(case: Case) -> dict[int, SessionTurn]:
    """Places in conversations of a case's requests."""
    turns: dict[int, int] = {}
    sessions = {}
    for number, request in enumerate(case.requests):
        if request.session is not None:
            turn = turns[request.session] = turns.get(request.session, -1) + 1
            sessions[number] = SessionTurn(request.session, turn, request.think)
    return sessions


class Arrivals:
    """Which requests of a case are sent before the next step is planned."""

    def __init__(self, case: Case) -> None:
        self._open = deque() if case.closed else deque(enumerate(case.requests))
        self._client: LoadClient | None = None
        if case.closed:
            sessions = turns_of(case)
            requests = [
                WorkloadRequest(number, number, request.num_prompt_tokens, 1, request.arrival)
                for number, request in enumerate(case.requests)
            ]
            refused = [n for n, request in enumerate(case.requests) if request.refused]
            self._client = LoadClient(requests, Load(case.limit), sessions, refused)

    @property
    def left(self) -> bool:
        """Whether a request can be sent without an answer to another."""
        return bool(self._open) or (
            self._client is not None and self._client.next_due() is not None
        )

    def take(self, steps: int, idle: bool) -> list[int]:
        """Requests sent after ``steps`` planned steps; an idle engine has no steps to count by."""
        if self._client is not None:
            due = self._client.next_due()
            now = max(steps, due) if idle and due is not None else steps
            return [request.request_id for request in self._client.take(now)]
        found = []
        while self._open and (self._open[0][1].arrival <= steps or idle):
            found.append(self._open.popleft()[0])
            idle = False
        return found

    def finished(self, numbers: list[int], steps: int) -> None:
        """These were answered, in this order."""
        if self._client is not None:
            for number in numbers:
                self._client.done(number, steps)


class Engine(Protocol):
    """A scheduler under a case; what it plans and delivers is told in plain values."""

    @property
    def unfinished(self) -> int: ...
    def add(self, number: int) -> None: ...
    def plan(self) -> dict[str, Any]: ...
    def deliver(self) -> dict[str, Any]: ...


class OurEngine:
    """`pytest_gpusim.serving.Scheduler` under a case."""

    def __init__(self, case: Case, version: str) -> None:
        rules = SchedulingRules.for_release(version, case.settings)
        self.requests: dict[int, Request] = {}
        self._case = case
        self._scheduler = Scheduler(rules)
        self._keys = BlockKeys(rules.block_size)

    @property
    def unfinished(self) -> int:
        return self._scheduler.num_unfinished

    def add(self, number: int) -> None:
        drawn = self._case.requests[number]
        keys = None
        if drawn.prompt is not None:
            keys = self._keys.chain(drawn.prompt + (drawn.output or ()))
        self.requests[number] = self._scheduler.add_request(
            number, drawn.num_prompt_tokens, drawn.max_tokens, keys
        )

    def plan(self) -> dict[str, Any]:
        step = self._scheduler.schedule()
        return {
            "batch": [(request.request_id, tokens) for request, tokens in step.batch()],
            "preempted": sorted(_ids(step.preempted)),
            "admitted": [(a.request.request_id, a.num_cached_tokens) for a in step.admitted],
            "prefill": (len(step.prefills), step.num_prefill_tokens, step.sum_prefill_context),
            "decode": (step.num_decodes, step.sum_decode_context, step.max_decode_context),
            "num_sampled": step.num_sampled,
            "free_blocks": self._scheduler.blocks.num_blocks - 1 - step.num_blocks_used,
            "running": step.num_running,
            "waiting": step.num_waiting,
        }

    def deliver(self) -> dict[str, Any]:
        step: Step = self._scheduler.pending[0]
        done = self._scheduler.complete(step)
        return {
            "sampled": _ids(done.sampled),
            "finished": _ids(done.finished),
            "free_blocks": self._scheduler.blocks.num_free,
            "unfinished": self.unfinished,
        }


class VllmEngine:
    """vLLM's scheduler under the same case; the model's tokens are made up."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._scheduler, self._hasher = _vllm_scheduler(case.settings)
        self._own_ids = itertools.count(_OWN_TOKENS)
        self._pending: deque[tuple[Any, list[str]]] = deque()
        self._prefill_end: dict[str, int] = {}

    @property
    def unfinished(self) -> int:
        return int(self._scheduler.get_num_unfinished_requests())

    def add(self, number: int) -> None:
        from vllm import SamplingParams
        from vllm.v1.request import Request as VllmRequest

        drawn = self._case.requests[number]
        prompt = drawn.prompt or tuple(itertools.islice(self._own_ids, drawn.num_prompt_tokens))
        self._scheduler.add_request(
            VllmRequest(
                request_id=str(number),
                prompt_token_ids=list(prompt),
                sampling_params=SamplingParams(max_tokens=drawn.max_tokens, ignore_eos=True),
                pooling_params=None,
                arrival_time=float(number),
                block_hasher=self._hasher,
            )
        )

    def plan(self) -> dict[str, Any]:
        scheduler = self._scheduler
        output = scheduler.schedule()
        scheduled = output.num_scheduled_tokens
        requests = scheduler.requests
        cached = output.scheduled_cached_reqs
        context = dict(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
        context |= {new.req_id: new.num_computed_tokens for new in output.scheduled_new_reqs}
        admitted = {new.req_id for new in output.scheduled_new_reqs} | set(cached.resumed_req_ids)
        for name in admitted:
            self._prefill_end[name] = requests[name].num_tokens
        prefills = [name for name in scheduled if context[name] < self._prefill_end[name]]
        decodes = [context[name] for name in scheduled if context[name] >= self._prefill_end[name]]
        sampled = [name for name in scheduled if not requests[name].is_prefill_chunk]
        self._pending.append((output, sampled))
        running, waiting = len(scheduler.running), len(requests) - len(scheduler.running)
        return {
            "batch": [(int(name), tokens) for name, tokens in scheduled.items()],
            "preempted": sorted(int(name) for name in output.preempted_req_ids or ()),
            "admitted": [(int(name), context[name]) for name in scheduled if name in admitted],
            "prefill": (
                len(prefills),
                sum(scheduled[name] for name in prefills),
                sum(context[name] for name in prefills),
            ),
            "decode": (len(decodes), sum(decodes), max(decodes, default=0)),
            "num_sampled": len(sampled),
            "free_blocks": scheduler.kv_cache_manager.block_pool.get_num_free_blocks(),
            "running": running,
            "waiting": waiting,
        }

    def deliver(self) -> dict[str, Any]:
        from vllm.v1.outputs import ModelRunnerOutput

        scheduler = self._scheduler
        output, sampled = self._pending.popleft()
        names = list(output.num_scheduled_tokens)
        tokens = {name: [self._next_token(name)] for name in sampled}
        delivered = scheduler.update_from_output(
            output,
            ModelRunnerOutput(
                req_ids=names,
                req_id_to_index={name: index for index, name in enumerate(names)},
                sampled_token_ids=[tokens.get(name, []) for name in names],
                logprobs=None,
                prompt_logprobs_dict={},
                pooler_output=[],
            ),
        )
        outputs = [out for group in delivered.values() for out in group.outputs]
        return {
            "sampled": [int(out.request_id) for out in outputs if out.new_token_ids],
            "finished": [int(out.request_id) for out in outputs if out.finish_reason is not None],
            "free_blocks": scheduler.kv_cache_manager.block_pool.get_num_free_blocks(),
            "unfinished": self.unfinished,
        }

    def _next_token(self, name: str) -> int:
        known = self._case.requests[int(name)].output
        if known is None:
            return next(self._own_ids)
        return known[self._scheduler.requests[name].num_output_tokens]


def compare(case: Case, version: str) -> Outcome:
    """Run one case on both schedulers, until they differ or all requests have finished."""
    ours, theirs = OurEngine(case, version), VllmEngine(case)
    steps = tokens = preemptions = cached_tokens = 0
    token_steps: dict[int, list[int]] = {}
    arrivals = Arrivals(case)
    in_flight: deque[int] = deque()

    def outcome(difference: str | None) -> Outcome:
        return Outcome(steps, tokens, preemptions, cached_tokens, difference)

    while arrivals.left or ours.unfinished or in_flight:
        may_plan = len(in_flight) <= bool(case.settings.async_scheduling)
        if may_plan and not (in_flight and steps in case.stalls):
            for number in arrivals.take(steps, idle=not (ours.unfinished or in_flight)):
                ours.add(number)
                theirs.add(number)
            if ours.unfinished:
                plan = ours.plan()
                difference = _difference(plan, theirs.plan())
                if difference:
                    return outcome(f"planning step {steps}: {difference}")
                in_flight.append(steps)
                steps += 1
                preemptions += len(plan["preempted"])
                cached_tokens += sum(cached for _, cached in plan["admitted"])
                continue
        if not in_flight:
            continue  # all that could be sent was refused
        done = ours.deliver()
        difference = _difference(done, theirs.deliver())
        step = in_flight.popleft()
        if difference:
            return outcome(f"delivering step {step}: {difference}")
        arrivals.finished(done["finished"], steps)
        tokens += len(done["sampled"])
        for number in done["sampled"]:
            token_steps.setdefault(number, []).append(step)
        if steps > 200_000:
            return outcome("no end in 200,000 steps")
    asked = sum(not request.refused for request in case.requests)
    if len(ours.requests) != asked:
        return outcome(f"{asked} requests were to be sent, {len(ours.requests)} were")
    for number, request in ours.requests.items():
        if list(request.token_steps()) != token_steps[number]:
            return outcome(f"request {number}: token_steps() is not when its tokens came")
    return outcome(None)


def smallest(case: Case, version: str) -> Case:
    """Leave out requests and stalls as long as a difference remains."""
    if case.stalls and compare(replace(case, stalls=frozenset()), version).difference:
        case = replace(case, stalls=frozenset())
    size = len(case.requests) // 2
    while size:
        start = 0
        while start < len(case.requests):
            fewer = replace(case, requests=case.requests[:start] + case.requests[start + size :])
            if fewer.requests and compare(fewer, version).difference:
                case = fewer
            else:
                start += size
        size //= 2
    return case


def vllm_version() -> str:
    """The installed vLLM's release."""
    import vllm

    return str(vllm.__version__)


def main(arguments: list[str] | None = None) -> int:
    """Run ``--workloads`` cases from ``--seed`` on, print a summary, return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.serving.vllm_equivalence")
    parser.add_argument("--workloads", type=int, default=1000, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="the first case's seed")
    parser.add_argument(
        "--rules", metavar="RELEASE", help="schedule ours by this release; default: vLLM's own"
    )
    parser.add_argument(
        "--closed", action="store_true", help="under limits and in conversations, by a client"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document only")
    options = parser.parse_args(arguments)

    installed = vllm_version()
    version = options.rules or installed
    started = time.monotonic()
    totals = {
        "vllm": installed,
        "rules": version,
        "release_is_known": release_is_known(version),
        "first_seed": options.seed,
        "workloads": 0,
        "asynchronous": 0,
        "steps": 0,
        "tokens": 0,
        "preemptions": 0,
        "cached_tokens": 0,
        "differences": 0,
    }
    failed: tuple[Case, str] | None = None
    for seed in range(options.seed, options.seed + options.workloads):
        case = draw_closed_case(seed) if options.closed else draw_case(seed)
        result = compare(case, version)
        totals["workloads"] += 1
        totals["asynchronous"] += bool(case.settings.async_scheduling)
        for key in ("steps", "tokens", "preemptions", "cached_tokens"):
            totals[key] += getattr(result, key)
        if result.difference:
            totals["differences"] += 1
            if failed is None:
                failed = (case, f"seed {seed}: {result.difference}")
    totals["seconds"] = round(time.monotonic() - started, 1)
    if options.json:
        print(json.dumps(totals))
    else:
        for key, value in totals.items():
            print(f"{key:18} {value}")
    if failed is None:
        return 0
    case, words = failed
    case = smallest(case, version)
    print(f"first difference, {words}", file=sys.stderr)
    print(f"smallest workload: {compare(case, version).difference}", file=sys.stderr)
    print(json.dumps(_as_json(case), indent=1), file=sys.stderr)
    return 1


def _ids(requests: list[Request]) -> list[Any]:
    return [request.request_id for request in requests]


def _difference(ours: dict[str, Any], theirs: dict[str, Any]) -> str | None:
    parts = [
        f"{key}: ours {ours[key]}, vLLM's {theirs[key]}" for key in ours if ours[key] != theirs[key]
    ]
    return "; ".join(parts) or None


def _as_json(case: Case) -> dict[str, Any]:
    return {
        "settings": case.settings.to_json(),
        "requests": [asdict(request) for request in case.requests],
        "stalls": sorted(case.stalls),
        "limit": case.limit,
    }


@cache
def _vllm_config() -> Any:
    """One configuration around a tiny model; what a case decides is set on it afterwards."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from vllm.config import CacheConfig, ModelConfig, SchedulerConfig, VllmConfig

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(_MODEL), encoding="utf-8")
        model = ModelConfig(
            model=folder,
            skip_tokenizer_init=True,
            dtype="float32",
            max_model_len=_MODEL["max_position_embeddings"],
        )
        return VllmConfig(
            model_config=model,
            cache_config=CacheConfig(block_size=16),
            scheduler_config=SchedulerConfig(
                max_model_len=model.max_model_len,
                is_encoder_decoder=False,
                max_num_batched_tokens=model.max_model_len,
            ),
        )


def _vllm_scheduler(settings: EngineSettings) -> tuple[Any, Any]:
    config = _vllm_config()
    import torch
    from vllm.utils.hashing import sha256
    from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
    from vllm.v1.core.sched.async_scheduler import AsyncScheduler
    from vllm.v1.core.sched.scheduler import Scheduler as SyncScheduler
    from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
    from vllm.v1.structured_output import StructuredOutputManager

    init_none_hash(sha256)
    scheduling, caching = config.scheduler_config, config.cache_config
    scheduling.max_num_seqs = settings.max_num_seqs
    scheduling.max_num_batched_tokens = settings.max_num_batched_tokens
    scheduling.long_prefill_token_threshold = settings.long_prefill_token_threshold
    scheduling.scheduler_reserve_full_isl = settings.scheduler_reserve_full_isl
    # The CPU platform switches it off when a configuration is built.
    scheduling.async_scheduling = settings.async_scheduling
    caching.block_size = settings.block_size
    caching.num_gpu_blocks = settings.num_gpu_blocks
    caching.enable_prefix_caching = settings.enable_prefix_caching
    config.model_config.max_model_len = settings.max_model_len
    spec = FullAttentionSpec(
        block_size=settings.block_size, num_kv_heads=1, head_size=8, dtype=torch.float32
    )
    scheduler_class = AsyncScheduler if settings.async_scheduling else SyncScheduler
    scheduler = scheduler_class(
        vllm_config=config,
        kv_cache_config=KVCacheConfig(
            num_blocks=settings.num_gpu_blocks,
            kv_cache_tensors=[],
            kv_cache_groups=[KVCacheGroupSpec(["layer"], spec)],
        ),
        structured_output_manager=StructuredOutputManager(config),
        block_size=settings.block_size,
    )
    return scheduler, get_request_block_hasher(settings.block_size, sha256)


if __name__ == "__main__":
    sys.exit(main())
