"""Whether steps of silicon tables are possible: ``python -m benchmarks.silicon.sanity [SYSTEM…]``.

Every known shape, on every system with tables of vLLM, in every precision, at degrees 1 to 8: each
step is held against what the device can read and multiply at its data sheet's rates, and against
steps of less work. Nothing is simulated.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, product
from pathlib import Path

from pytest_gpusim.bundle import read_bundle
from pytest_gpusim.deployment import EngineSettings, ModelShape
from pytest_gpusim.deployment.memory import expert_bytes, weight_bytes
from pytest_gpusim.deployment.models import BUILTIN_MODELS
from pytest_gpusim.deployment.quantization import Quantization
from pytest_gpusim.errors import GpusimError
from pytest_gpusim.profiling.aiconfigurator import compose
from pytest_gpusim.profiling.silicon_fusions import default_fusions
from pytest_gpusim.profiling.silicon_tables import SiliconTables, open_tables
from pytest_gpusim.serving.steptime import StepFeatures, StepTimeModel

SYSTEMS = (
    "a100_sxm", "h100_sxm", "h200_sxm", "b200_sxm", "b300_sxm", "gb200", "gb300", "l40s",
    "rtx_pro_6000_server", "b60",
)  # fmt: skip
_FP8 = Quantization("fp8", kv_cache_dtype="fp8")
SCHEMES = {
    "bfloat16": None,
    "fp8": _FP8,
    "fp8_block": Quantization("fp8_block"),
    "nvfp4": replace(_FP8, scheme="nvfp4"),
    "int8": Quantization("int8"),
}
_RATES = {"bfloat16": "bfloat16", "fp8_block": "fp8", "nvfp4": "fp4"}
DEGREES = (1, 2, 4, 8)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 512)
CONTEXTS = (256, 1024, 8192)
PROMPTS = (16, 64, 128, 256, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)
SLOWEST = 20
"""How many times as long as reading and multiplying take a step may take."""
LAUNCHES_MS = 0.01
"""Of a layer, of which even the smallest is launched; `SLOWEST` times this is no layer's time."""
DEEPEST_FALL = 0.4
"""How much less than a step of less work one may take: kernels are chosen by size."""


@dataclass
class Findings:
    """One configuration: why it is refused, or how its steps stand and what is wrong with them.

    Attributes:
        over_least, over_most: Of decode steps, then prefills: times over `Limits.of`.
        falls: Of the same: how much less time than a step of less work, at most.
        wrong: A sentence each.
    """

    system: str
    model: str
    scheme: str
    degree: int
    expert_parallel: bool
    refused: str | None = None
    distrusted: bool = False
    over_least: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    over_most: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    falls: list[float] = field(default_factory=lambda: [0.0, 0.0])
    wrong: list[str] = field(default_factory=list)


def shapes() -> list[ModelShape]:
    """Each known shape once, without its quantization."""
    plain = {replace(each, name="", quantization=None): each for each in BUILTIN_MODELS[::-1]}
    return [replace(each, quantization=None) for each in plain.values()]


def findings(
    systems: Sequence[str] = SYSTEMS,
    models: Sequence[ModelShape] | None = None,
    schemes: Sequence[str] = tuple(SCHEMES),
    degrees: Sequence[int] = DEGREES,
) -> Iterator[Findings]:
    """Judge configurations, all of them unless told otherwise, system by system."""
    with tempfile.TemporaryDirectory() as scratch:
        for system in systems:
            tables = open_tables(system, "vllm", None)
            for number, (scheme, shape, degree, whole) in enumerate(
                product(schemes, models or shapes(), degrees, (False, True))
            ):
                if whole and (shape.experts is None or degree == 1):
                    continue
                one = replace(shape, quantization=SCHEMES[scheme])
                found = Findings(system, shape.name, scheme, degree, whole)
                try:
                    _judge(found, tables, one, Path(scratch) / f"{system}-{number}")
                except GpusimError as error:
                    found.refused = str(error)
                yield found


def _judge(found: Findings, tables: SiliconTables, shape: ModelShape, out: Path) -> None:
    degree, whole = found.degree, found.expert_parallel
    compose(
        tables, shape, tensor_parallel=degree, block_size=16, hardware="any", out=out,
        expert_parallel=whole, fusions=default_fusions(None, tables.sm_version, degree),
    )  # fmt: skip
    bundle = read_bundle(out)
    found.distrusted = bool(bundle.meta["distrusted"])
    settings = EngineSettings(tensor_parallel_size=degree, enable_expert_parallel=whole)
    model = StepTimeModel(bundle, shape, settings)
    limits = Limits(tables, shape, degree)
    for context in CONTEXTS:
        batches = [
            (f"{batch} sequences of {context}", StepFeatures([], batch, batch * context, batch))
            for batch in BATCHES
        ]
        hold(found, 0, model, limits, batches)
    for batch in (BATCHES[0], BATCHES[-1]):
        steps = [
            (f"{batch} sequences of {context}", StepFeatures([], batch, batch * context, batch))
            for context in (*CONTEXTS[:-1], 2048, 4096, CONTEXTS[-1])
        ]
        hold(found, 0, model, limits, steps)
    prompts = [
        (f"a prompt of {tokens}", StepFeatures([(tokens, 0)], 0, 0, 1)) for tokens in PROMPTS
    ]
    hold(found, 1, model, limits, prompts)
    chunks = [
        (f"{tokens} tokens after 4096", StepFeatures([(tokens, 4096)], 0, 0, 1))
        for tokens in PROMPTS
    ]
    hold(found, 1, model, limits, chunks)


def hold(
    found: Findings,
    kind: int,
    model: StepTimeModel,
    limits: Limits,
    steps: Iterable[tuple[str, StepFeatures]],
) -> None:
    """Hold steps of ever more work against their limits and each other."""
    longest = ("", 0.0)
    for what, features in steps:
        time = model.time(features).time_ns / 1e6
        least, most = limits.of(features)
        at = f"{what}: {time:.2f} ms"
        if not math.isfinite(time):
            found.wrong.append(at)
            continue
        found.over_least[kind].append(time / least)
        found.over_most[kind].append(time / most)
        if time < least:
            found.wrong.append(f"{at}, and the device takes {least:.2f} at least")
        if time > SLOWEST * most:
            found.wrong.append(f"{at}, and reading and multiplying take {most:.2f}")
        if time < longest[1]:
            found.falls[kind] = max(found.falls[kind], 1 - time / longest[1])
        if time < (1 - DEEPEST_FALL) * longest[1]:
            found.wrong.append(f"{at}, and {longest[0]} take {longest[1]:.2f}")
        longest = max(longest, (what, time), key=lambda each: each[1])


class Limits:
    """What steps of a model take at least and at most, by the data sheet.

    Args:
        tables: For the device's rates.
        shape: The model.
        degree: Devices.
    """

    def __init__(self, tables: SiliconTables, shape: ModelShape, degree: int) -> None:
        self._tables, self._shape = tables, shape
        gpu, plain = tables.spec["gpu"], gpu_rate(tables, "bfloat16")
        scheme = shape.quantization.scheme if shape.quantization else "bfloat16"
        rate = gpu_rate(tables, scheme)
        experts = shape.experts
        self._experts = expert_bytes(shape, "bfloat16", degree)
        self._share = experts.per_token / experts.num_experts if experts else 1.0
        head = shape.vocab_size * shape.hidden_size // degree
        # Of the embeddings only some rows are read; they may be the LM head as well.
        rest = weight_bytes(shape, "bfloat16", degree) - self._experts
        self._rest = rest - (0 if shape.tie_word_embeddings else 2 * head)
        self._kv = shape.kv_bytes_per_token(shape.kv_cache_dtype("bfloat16", "auto"), degree)
        parts = shape.weights_by_part(degree)
        used = parts["attention"] + parts["mlp"] + self._share * parts.get("experts", 0)
        self._token_ms, self._head_ms = 2e3 * used / rate, 2e3 * head / plain
        heads = shape.num_q_heads // degree
        fast = max(plain, gpu.get("fp8_tc_flops", 0)) if self._fp8_kv else plain
        self._pair_ms = 4e3 * shape.num_layers * heads * shape.head_dim / fast
        # Two all-reduces a layer, and the logits gathered.
        between = 1e3 / tables.spec["node"]["intra_node_bw"] if degree > 1 else 0.0
        self._reduced_ms = between * 8 * shape.num_layers * shape.hidden_size
        self._gathered_ms = between * 2 * shape.vocab_size

    @property
    def _fp8_kv(self) -> bool:
        return self._shape.kv_cache_dtype("bfloat16", "auto") == "fp8"

    def of(self, features: StepFeatures) -> tuple[float, float]:
        """Least and most time of a step, in ms: one token's experts read, or all of them.

        Reading and multiplying overlap in the one, and not in the other.
        """
        chunks, contexts = features.chunks, features.sum_decode_context
        tokens = sum(chunk for chunk, _ in chunks) + features.num_decodes
        pairs = contexts + sum(chunk * (context + chunk / 2) for chunk, context in chunks)
        kept = (contexts + sum(context for _, context in chunks)) * self._kv
        multiplied = (
            tokens * self._token_ms + features.num_sequences * self._head_ms + pairs * self._pair_ms
        )
        read = self._tables.reading_ms
        least = max(multiplied, read(self._rest + kept + self._share * self._experts))
        messages = tokens * self._reduced_ms + features.num_sequences * self._gathered_ms
        most = multiplied + read(self._rest + kept + self._experts) + messages
        return least, max(most, LAUNCHES_MS * self._shape.num_layers)


def gpu_rate(tables: SiliconTables, scheme: str) -> float:
    """Multiplications and additions a second, dense, in a scheme's numbers."""
    gpu = tables.spec["gpu"]
    plain = gpu["bfloat16_tc_flops"]
    return float(max(plain, gpu.get(f"{_RATES.get(scheme, scheme)}_tc_flops", plain)))


def main(systems: Sequence[str]) -> int:
    """Print a table, what is wrong and how much is refused, by reason; 1 if anything is wrong."""
    refused, wrong = Counter[str](), list[str]()
    print(
        "| system | numbers | judged | warned of | refused | decode: least, most | falls by "
        "| prefill: least, most | falls by | impossible |"
    )
    print("| --- | --- |" + " ---: |" * 8)
    every = findings(systems or SYSTEMS)
    for (system, scheme), group in groupby(every, lambda each: (each.system, each.scheme)):
        each = list(group)
        judged = [one for one in each if one.refused is None]
        for one in each:
            if one.refused is not None:
                refused[f"{system} {scheme}: {one.refused}"] += 1
            where = f"{system} {one.model} {scheme} degree {one.degree}"
            where += " whole experts" if one.expert_parallel else ""
            wrong += [f"{where}: {text}" for text in one.wrong]
        if judged:
            print(_row(system, scheme, judged, len(each) - len(judged)), flush=True)
    for text in wrong:
        print(f"- {text}")
    print(f"{len(wrong)} impossible steps; refused:")
    for reason, count in sorted(refused.items()):
        print(f"- {count}: {reason}")
    return 1 if wrong else 0


def _row(system: str, scheme: str, judged: Sequence[Findings], refused: int) -> str:
    cells = [system, scheme, f"{len(judged)}", f"{sum(one.distrusted for one in judged)}"]
    cells.append(f"{refused}")
    for kind in (0, 1):
        least = min(ratio for one in judged for ratio in one.over_least[kind])
        most = max(ratio for one in judged for ratio in one.over_most[kind])
        cells.append(f"{least:.2f}, {most:.1f}")
        cells.append(f"{max(one.falls[kind] for one in judged):.0%}")
    cells.append(f"{sum(len(one.wrong) for one in judged)}")
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
