"""The clients that made the loads of measured points, as far as they are known.

A row does not name its client. Rows without a release are of InferenceX's, whose load is public
(``benchmark_serving.py`` there). Of the rows of vLLM 0.12.0 nobody says, but two differ: figures
of full precision are means over ten whole requests a client (their digits end where such a mean's
of whole ns do), and rounded ones come with so little prefill that prompts were sent again.
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
    fused_on_blackwell: Mapping[int, float] | None = None

    def fusions(self, point: Point) -> Fusions | None:
        """What the server was told to fuse; None: nothing but what its release does unasked."""
        if self.fused_on_blackwell is None or point.hardware in _HOPPER:
            return None
        limits = dict(self.fused_on_blackwell)
        return up_to_mib(limits, point.tensor_parallel, attention_quantizes=True)

    def seats(self, point: Point) -> int | None:
        """``max_num_seqs`` of the server; None: its default."""
        if not self.seats_are_clients:
            return None
        return point.concurrency if point.hardware in _HOPPER else _BLACKWELL_SEATS

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
EXACT = Client(
    name="exact figures",
    shortest=1.0,
    requests_per_client=10,
    distinct_prompts=None,
    prefix_caching=None,
    async_scheduling=None,
    seats_are_clients=False,
    statistic="mean",
    source="assumed: stated lengths, every prompt once, 10 requests a client, vLLM's defaults",
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
    source="assumed: as GenAI-Perf and AIPerf unless told otherwise (100 unique prompts, used "
    "again until the run ends), 10 requests a client, vLLM's defaults, prefix caching among them; "
    "with prompts of their own, some of these rows would have computed more than the device can",
)
CLIENTS = (INFERENCEX, EXACT, ROUNDED)
_ROUNDED_DECIMALS = 2


def client_of(point: Point) -> Client:
    """The client that a row's release, or else the digits of its figures, tell of."""
    if not point.vllm_version:
        return INFERENCEX
    decimals = [len(point.row[key].partition(".")[2]) for key in ("ttft_ms", "tpot_ms")]
    return ROUNDED if max(decimals) <= _ROUNDED_DECIMALS else EXACT
