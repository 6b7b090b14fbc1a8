"""The clients that made the loads of measured points, as far as they are known.

A row does not name its client. Rows without a release are of InferenceX's, whose load is public
(``benchmark_serving.py`` there). The others are AIConfigurator's, whose sources have a client and
the flags of the server: figures of full precision are GenAI-Perf's, which alone rounds each
request's TPOT to whole ns (``llm_profile_data_parser.py``; the digits of all these rows end where
means of ten such requests a client do). Rounded ones come with so little prefill that prompts were
sent again.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pytest_gpusim.points.rows import Point
from pytest_gpusim.profiling.silicon_fusions import Fusions, up_to_mib

_SEED = 0
_HOPPER, _BLACKWELL_SEATS = ("h100", "h200"), 512
# AIConfigurator's generator: ``max_batch_size`` of fewer, and what a server takes beside a prompt
# (``generator/rule_plugin/vllm.rule``, ``backend_config_mapping.yaml``).
_GENERATED_SEATS, _GENERATED_MARGIN = 512, 1500


@dataclass(frozen=True)
class Client:
    """How a client loads the server: requests of random tokens, N at once, answers not cut short.

    Attributes:
        name: For the report.
        shortest: Lengths are uniform from this share of the stated ones to all of them.
        requests_per_client: Requests in all, per client; measured are all of them.
        distinct_prompts: How many prompts there are, sent in turn; None: each is sent once.
        prefix_caching: Whether the server was told to cache prefixes; None: its default.
        async_scheduling: The same.
        generated: Whether AIConfigurator's generator wrote the server's flags.
        fused_on_blackwell: MiB of the largest fused all-reduce by degree, which the server was told
            on Blackwell, with attention quantizing its output; None: the release's defaults.
        seats_are_clients: Whether ``max_num_seqs`` is the number of clients (on Blackwell 512).
        statistic: Of the two figures.
        source: Why so.
    """

    name: str
    shortest: float
    requests_per_client: int
    distinct_prompts: int | None
    prefix_caching: bool | None
    async_scheduling: bool | None
    seats_are_clients: bool
    statistic: str
    source: str
    generated: bool = False
    fused_on_blackwell: Mapping[int, float] | None = None

    def fusions(self, point: Point) -> Fusions | None:
        """What the server was told to fuse; None: nothing but what its release does unasked."""
        if self.fused_on_blackwell is None or point.hardware in _HOPPER:
            return None
        limits = dict(self.fused_on_blackwell)
        return up_to_mib(limits, point.tensor_parallel, attention_quantizes=True)

    def limits(self, point: Point) -> dict[str, int]:
        """The server's limits that are not its release's defaults, as engine settings."""
        if self.generated:
            return {
                "max_num_seqs": _GENERATED_SEATS,
                "max_num_batched_tokens": _GENERATED_SEATS + point.isl + _GENERATED_MARGIN,
                "max_model_len": point.isl + point.osl + _GENERATED_MARGIN,
            }
        if self.seats_are_clients:
            seats = point.concurrency if point.hardware in _HOPPER else _BLACKWELL_SEATS
            return {"max_num_seqs": seats}
        return {}

    def lengths(self, point: Point) -> list[tuple[int, int, int]]:
        """(prompt id, prompt tokens, answer tokens) of each request, in order of sending."""
        draw = random.Random(_SEED)

        def length(stated: int) -> int:
            return draw.randint(max(1, int(self.shortest * stated)), stated)

        number = self.requests_per_client * point.concurrency
        prompts = self.distinct_prompts or number
        of_prompt: dict[int, int] = {}
        found = []
        for index in range(number):
            prompt = index % prompts
            tokens = of_prompt.setdefault(prompt, length(point.isl))
            found.append((prompt, tokens, length(point.osl)))
        return found


INFERENCEX = Client(
    name="InferenceX",
    shortest=0.8,
    requests_per_client=10,
    distinct_prompts=None,
    prefix_caching=False,
    async_scheduling=True,
    seats_are_clients=True,
    statistic="mean",
    source="its benchmark_serving.py: random prompts, lengths uniform from 0.8 to 1 times the "
    "stated ones, 10 prompts a client after a warm-up that is waited for, rate inf, ignore_eos; "
    "its recipe: asynchronous scheduling, no prefix caching, as many sequences as clients; on "
    "Blackwell 512, fused all-reduces (VLLM_FLASHINFER_ALLREDUCE_FUSION_THRESHOLDS_MB) and "
    "attention that quantizes",
    fused_on_blackwell=MappingProxyType({2: 32, 4: 32, 8: 8}),
)
_GENERATED = (
    "the server's flags as AIConfigurator's generator writes them (512 sequences, 512 + prompt + "
    "1500 batched tokens), else vLLM's defaults"
)
EXACT = Client(
    name="exact figures",
    shortest=1.0,
    requests_per_client=10,
    distinct_prompts=None,
    prefix_caching=None,
    async_scheduling=None,
    seats_are_clients=False,
    statistic="mean",
    source="GenAI-Perf, by its digits, as AIConfigurator runs it (eval/benchmarks/"
    "genai_perf_runner.py): stated lengths, ignore_eos, every prompt once, 10 requests a client "
    f"after a warm-up that is waited for; {_GENERATED}",
    generated=True,
)
ROUNDED = Client(
    name="rounded figures",
    shortest=1.0,
    requests_per_client=10,
    distinct_prompts=100,
    prefix_caching=None,
    async_scheduling=None,
    seats_are_clients=False,
    statistic="mean",
    source="assumed: AIPerf as AIConfigurator runs it since (bench_run.sh.j2): stated lengths, 100 "
    "unique prompts, used again until the run ends, here 10 requests a client; with prompts of "
    "their own, some of these rows would have computed more than the device can; "
    f"{_GENERATED}, prefix caching among them",
    generated=True,
)
CLIENTS = (INFERENCEX, EXACT, ROUNDED)
_ROUNDED_DECIMALS = 2


def client_of(point: Point) -> Client:
    """The client that a row's release, or else the digits of its figures, tell of."""
    if not point.vllm_version:
        return INFERENCEX
    decimals = [len(point.row[key].partition(".")[2]) for key in ("ttft_ms", "tpot_ms")]
    return ROUNDED if max(decimals) <= _ROUNDED_DECIMALS else EXACT
