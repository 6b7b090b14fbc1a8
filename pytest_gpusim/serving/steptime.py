"""How long an engine step takes: profiled operator times, composed.

A step is ``layers x (dense operators + attention + all-reduces) + embedding + final norm + LM head
+ sampler + engine time``, each counted once and at its exact number of tokens. Attention of a step
that holds prefill and decodes comes from the joint grid where the bundle has one, and is the sum of
the two kinds otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from operator import itemgetter
from typing import NamedTuple

from pytest_gpusim.bundle import Bundle
from pytest_gpusim.bundle.match import require_model
from pytest_gpusim.bundle.schema import STEP_OPERATORS
from pytest_gpusim.deployment import EngineSettings, ModelShape
from pytest_gpusim.serving.interpolation import Interpolant, ragged_grid
from pytest_gpusim.serving.step import Step
from pytest_gpusim.serving.steptime_operators import (
    all_reduce_bytes,
    interpolate_overhead,
    norm_all_reduce_bytes,
    operator_tables,
)

_TOKENS = itemgetter(0)  # of a chunk


class StepFeatures(NamedTuple):
    """What a step's time depends on. Contexts are tokens in the KV cache before the step.

    Attributes:
        chunks: (tokens, context) of each prefill chunk.
        num_decodes: Sequences that decode one token.
        sum_decode_context: Sum of their contexts.
        num_sequences: All sequences of the step. vLLM computes logits and samples for each, an
            unfinished prefill included (``gpu_model_runner.py: _prepare_inputs``).
        min_decode_context: Smallest of the decodes' contexts; used by a skew fit only.
        max_decode_context: Largest of them; used by a skew fit only.
    """

    chunks: Sequence[tuple[int, int]]
    num_decodes: int
    sum_decode_context: int
    num_sequences: int
    min_decode_context: int = 0
    max_decode_context: int = 0


class StepTime(NamedTuple):
    """A step's time. The attention times are of all layers; one of the last three is of a step.

    Attributes:
        time_ns: Of the whole step, at least 1.
        extrapolated: Whether any operator was asked for outside its profiled points.
        prefill_ns: Attention of prefill chunks.
        decode_ns: Attention of decodes.
        mixed_ns: Attention of both in one kernel.
        overhead_ns: Engine time that no operator holds.
    """

    time_ns: int
    extrapolated: bool
    prefill_ns: float
    decode_ns: float
    mixed_ns: float
    overhead_ns: float


class StepTimeModel:
    """Step times of one model on one device, from a bundle.

    Args:
        bundle: The profile.
        shape: The model that is simulated.
        settings: ``tensor_parallel_size`` and ``dtype`` are read; None means 1 and the bundle's.

    Raises:
        InputError: The bundle is of another model, or lacks what these settings need.
    """

    def __init__(self, bundle: Bundle, shape: ModelShape, settings: EngineSettings) -> None:
        require_model(bundle, shape)
        tp = settings.tensor_parallel_size or 1
        tables = operator_tables(bundle, shape, tp, settings.enable_expert_parallel)
        self._shape, self._layers = shape, shape.num_layers
        self._dtype = settings.dtype or str(bundle.meta["dtype"])
        self._by_tokens: dict[str, tuple[int, Interpolant]] = {
            name: (times, ragged_grid(*table)) for name, (times, table) in tables.by_tokens.items()
        }
        self._by_sequences = {
            name: ragged_grid(*table) for name, table in tables.by_sequences.items()
        }
        grids = tables.attention
        self._prefill = ragged_grid(*grids.prefill)
        self._decode = ragged_grid(*grids.decode)
        self._mixed = grids.mixed_interpolant()
        self._joint_prefill = grids.joint_prefill
        self._engine_times = tables.overhead
        self._all_reduce = ragged_grid(*tables.all_reduce) if tables.all_reduce else None
        self._skew = bundle.skew
        self._token_times: dict[int, tuple[float, bool]] = {}
        self._sequence_times: dict[int, tuple[float, bool]] = {}
        self._fixed_times: dict[tuple[int, int, int], tuple[float, float, bool]] = {}

    def features(self, step: Step) -> StepFeatures:
        """A planned step's features; call it before the next step is planned."""
        smallest = 0
        if self._skew is not None and step.num_decodes > 1:
            smallest = step.min_decode_context()
        return StepFeatures(
            [(chunk.num_tokens, chunk.context) for chunk in step.prefills] if step.prefills else (),
            step.num_decodes,
            step.sum_decode_context,
            len(step.requests),
            smallest,
            step.max_decode_context,
        )

    def time(self, features: StepFeatures) -> StepTime:
        """The time of a step that computes at least one token."""
        prefill_tokens = sum(map(_TOKENS, features.chunks)) if features.chunks else 0
        sizes = (prefill_tokens, features.num_decodes, features.num_sequences)
        known = self._fixed_times.get(sizes)
        if known is None:
            known = self._fixed_times[sizes] = self._time_of_sizes(*sizes)
        fixed, overhead, fixed_outside = known
        prefill, decode, mixed, outside = self._attention(features, prefill_tokens)
        time = fixed + prefill + decode + mixed
        return StepTime(
            max(1, round(time)), outside or fixed_outside, prefill, decode, mixed, overhead
        )

    @cached_property
    def _overhead(self) -> Interpolant | None:
        """Built when a step is priced: triangles of scattered points take an import of scipy."""
        return interpolate_overhead(self._engine_times)

    def _time_of_sizes(
        self, prefill_tokens: int, decodes: int, sequences: int
    ) -> tuple[float, float, bool]:
        """All but attention, the engine's time in it, and whether any of it was extrapolated."""
        dense, dense_outside = self._dense(prefill_tokens + decodes)
        sampling, sampling_outside = self._sampling(sequences)
        overhead, outside = 0.0, False
        if self._overhead is not None:
            overhead, outside = self._overhead.at(prefill_tokens, sequences)
        outside = outside or dense_outside or sampling_outside
        return dense + sampling + overhead, overhead, outside

    def breakdown(self, features: StepFeatures) -> dict[str, float]:
        """The step's time by operator, in ns, all layers together."""
        tokens = sum(chunk[0] for chunk in features.chunks) + features.num_decodes
        return self.totals([(tokens, features.num_sequences, self.time(features)[2:])])

    def totals(self, steps: Iterable[tuple[int, int, Sequence[float]]]) -> dict[str, float]:
        """Time by operator over many steps, in ns; operators without time are left out.

        Args:
            steps: Tokens, sequences, and the times of `StepTime` from ``prefill_ns`` on, of each.
        """
        token_counts: Counter[int] = Counter()
        sequence_counts: Counter[int] = Counter()
        totals = dict.fromkeys([*self._by_tokens, *self._by_sequences], 0.0)
        kinds = ("attn_prefill", "attn_decode", "attn_mixed", "overhead")
        totals.update(dict.fromkeys([*kinds, "all_reduce"], 0.0))
        for tokens, sequences, times_of_kinds in steps:
            token_counts[tokens] += 1
            sequence_counts[sequences] += 1
            for kind, value in zip(kinds, times_of_kinds, strict=True):
                totals[kind] += value
        for tokens, count in token_counts.items():
            for name, (times, inner) in self._by_tokens.items():
                totals[name] += count * times * inner.at(tokens)[0]
            totals["all_reduce"] += count * self._time_of_all_reduces(tokens)[0]
        for sequences, count in sequence_counts.items():
            for name, inner in self._by_sequences.items():
                totals[name] += count * inner.at(sequences)[0]
        return {name: value for name, value in totals.items() if value}

    def time_without_attention(self, tokens: int, sequences: int) -> float:
        """The operators of a step other than attention, in ns; without engine time."""
        return self._dense(tokens)[0] + self._sampling(sequences)[0]

    def layer_times(self, tokens: int) -> dict[str, float]:
        """Times in one layer of what depends on the step's tokens, in ns; one all-reduce of two.

        Of an MLP that only some layers have, its share of a layer.
        """
        times = {
            name: inner.at(tokens)[0] * times / self._layers
            for name, (times, inner) in self._by_tokens.items()
            if name not in STEP_OPERATORS
        }
        times["all_reduce"] = self._time_of_all_reduces(tokens)[0] / (2 * self._layers)
        return times

    def _dense(self, tokens: int) -> tuple[float, bool]:
        """What depends on the step's tokens; kept, for a run asks for the same sizes again."""
        known = self._token_times.get(tokens)
        if known is None:
            known = self._token_times[tokens] = self._time_of_tokens(tokens)
        return known

    def _sampling(self, sequences: int) -> tuple[float, bool]:
        """What depends on the step's sequences: LM head and sampler."""
        known = self._sequence_times.get(sequences)
        if known is None:
            known = self._sequence_times[sequences] = _total(
                inner.at(sequences) for inner in self._by_sequences.values()
            )
        return known

    def _time_of_tokens(self, tokens: int) -> tuple[float, bool]:
        total, outside = self._time_of_all_reduces(tokens)
        for times, inner in self._by_tokens.values():
            value, beyond = inner.at(tokens)
            total += times * value
            outside = outside or beyond
        return total, outside

    def _time_of_all_reduces(self, tokens: int) -> tuple[float, bool]:
        if self._all_reduce is None:
            return 0.0, False
        size = all_reduce_bytes(self._shape, self._dtype, tokens)
        value, outside = self._all_reduce.at(size)
        total = 2 * self._layers * value
        if self._shape.qk_norm_over_heads:
            total += self._layers * self._all_reduce.at(norm_all_reduce_bytes(tokens))[0]
        return total, outside

    def _attention(
        self, features: StepFeatures, prefill_tokens: int
    ) -> tuple[float, float, float, bool]:
        """Attention of all layers: prefill, decode, mixed, and whether any was extrapolated."""
        layers, outside = self._layers, False
        if not prefill_tokens and features.num_decodes:
            decode, outside = self._skewed(self._decode, features, ())
            return 0.0, layers * decode, 0.0, outside
        if self._mixed is not None and prefill_tokens:
            joint, outside = self._joint(features, prefill_tokens)
            if features.num_decodes:
                return 0.0, 0.0, layers * joint, outside
            return layers * joint, 0.0, 0.0, outside
        prefill = decode = 0.0
        if self._joint_prefill and prefill_tokens:
            prefill, outside = self._joint(features, prefill_tokens)
        for tokens, context in () if self._joint_prefill else features.chunks:
            value, beyond = self._prefill.at(tokens, context)
            prefill += value
            outside = outside or beyond
        if features.num_decodes:
            decode, beyond = self._skewed(self._decode, features, ())
            outside = outside or beyond
        return layers * prefill, layers * decode, 0.0, outside

    def _joint(self, features: StepFeatures, prefill_tokens: int) -> tuple[float, bool]:
        """Attention of one layer in one kernel: prefill chunks, and decodes where there are any.

        The joint grid is measured with one chunk a step. Several chunks are as one of all their
        tokens at a context that makes it as much work; where that would be negative (chunks do not
        attend to each other), the grid is mirrored at no context, but not below the largest chunk
        nor, without decodes, above a kernel for each.
        """

        mixed = self._mixed if features.num_decodes else None

        def kernel(tokens: int, context: float) -> tuple[float, bool]:
            if mixed is not None:
                return self._skewed(mixed, features, (tokens, context))
            return self._prefill.at(tokens, context)

        context = _joint_context(features.chunks, prefill_tokens)
        if context >= 0:
            return kernel(prefill_tokens, context)
        without, outside = kernel(prefill_tokens, 0)
        beyond, _ = kernel(prefill_tokens, -context)
        largest, _ = kernel(*max(features.chunks))
        time = max(2 * without - beyond, largest)
        if mixed is None:
            time = min(time, sum(kernel(*chunk)[0] for chunk in features.chunks))
        return time, outside

    def _skewed(
        self, kernel: Interpolant, features: StepFeatures, prefill: tuple[float, ...]
    ) -> tuple[float, bool]:
        """Attention of decodes whose contexts differ: ``t_mean + alpha (t_max - t_mean)``."""
        number = features.num_decodes
        mean = features.sum_decode_context / number
        time, outside = kernel.at(*prefill, number, mean)
        if self._skew is None or features.max_decode_context <= features.min_decode_context:
            return time, outside
        longest, beyond = kernel.at(*prefill, number, features.max_decode_context)
        tokens, context = prefill or (0, 0)
        spread = features.max_decode_context - features.min_decode_context
        alpha = self._skew.alpha(
            prefill_tokens=tokens,
            kv_prefill=context,
            num_decodes=number,
            evenness=(mean - features.min_decode_context) / spread,
            kv_max=features.max_decode_context,
            gap=(longest - time) / time if time else 0.0,
        )
        return max(0.0, time + alpha * (longest - time)), outside or beyond


def _joint_context(chunks: Sequence[tuple[int, int]], prefill_tokens: int) -> float:
    """The context at which a single chunk of all the prefill tokens would be as much attention.

    A query token attends to its context and, on average, to half of its chunk. The sum of several
    chunks' contexts would make every token attend to all of them.
    """
    if len(chunks) == 1:
        return chunks[0][1]
    keys = sum(tokens * (context + tokens / 2) for tokens, context in chunks)
    return keys / prefill_tokens - prefill_tokens / 2


def _total(parts: Iterable[tuple[float, bool]]) -> tuple[float, bool]:
    values, flags = 0.0, False
    for value, outside in parts:
        values += value
        flags = flags or outside
    return values, flags
