"""From measured steps to a bundle's tables."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median, pstdev
from typing import TYPE_CHECKING, Any

from pytest_gpusim.bundle.schema import (
    ATTENTION,
    EP,
    LAYER_OPERATORS,
    MIXED_ATTENTION,
    MLP,
    MOE,
    OPTIONAL_LAYER_OPERATORS,
    OVERHEAD,
    PER_SEQUENCE,
    SEQUENCE_OPERATORS,
    STEP_OPERATORS,
    TP,
    Bundle,
)
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.profiling.composition import attention_rows, mlp_rows
from pytest_gpusim.profiling.vllm.campaign import Sample
from pytest_gpusim.profiling.vllm.contexts import closed, filled, levelled, rates_of
from pytest_gpusim.profiling.vllm.grid import Shape
from pytest_gpusim.serving.steptime import StepFeatures, StepTimeModel

if TYPE_CHECKING:
    import pandas as pd

    from pytest_gpusim.deployment import ModelShape

_KERNEL = "attention"
_NS_PER_MS = 1e6


def tables_of(
    samples: Sequence[Sample],
    walls: Sequence[Sample] | None,
    model: ModelShape,
    engine: Mapping[str, Any],
) -> dict[str, pd.DataFrame]:
    """The tables of a bundle.

    A layer operator's time is its sum over the layers of one step divided by their number: the
    layers differ, and a step pays for all of them. Over the steps of one point: the median, and
    the operators of `mlp.csv` together so that their sum is the median of the sums.

    Args:
        samples: Steps with operator times.
        walls: Whole steps of the engine that is served, without hooks; None takes those of
            ``samples``.
        model: The model.
        engine: Its resolved settings.
    """
    tables = {
        MLP: _mlp(samples, model, engine),
        ATTENTION: _attention(samples, model, engine),
        PER_SEQUENCE: _per_sequence(samples),
        MIXED_ATTENTION: _mixed(samples, model, engine),
    }
    if model.experts is not None:
        tables[MOE] = _moe(samples, model, engine)
    return {**tables, OVERHEAD: _overhead(samples, walls, tables, model)}


def repeatability(
    samples: Sequence[Sample], walls: Sequence[Sample] | None = None
) -> dict[str, Any]:
    """Coefficient of variation between passes: the median over the points, by operator.

    ``served_engine`` is that of the whole steps in ``walls``, timed without hooks.
    """
    names = sorted({name for sample in samples for name in sample.operators})
    series: dict[str, Callable[[Sample], float]] = {"step": lambda sample: sample.wall_ns}
    series.update((name, _operator(name)) for name in names)
    found: dict[str, Any] = {
        "passes": len({sample.number for sample in samples}),
        "coefficient_of_variation": {
            name: _variation(samples, value) for name, value in series.items()
        },
    }
    if walls is not None:
        found["served_engine"] = repeatability(walls)
    return found


def _variation(samples: Sequence[Sample], value: Callable[[Sample], float]) -> float | None:
    spreads = []
    for steps in _grouped(samples, lambda s: s.shape, lambda s: s).values():
        passes = _grouped(steps, lambda s: s.number, value)
        means = [fmean(times) for times in passes.values()]
        if len(means) > 1 and fmean(means) > 0:
            spreads.append(pstdev(means) / fmean(means))
    return round(median(spreads), 4) if spreads else None


def _mlp(samples: Sequence[Sample], model: ModelShape, engine: Mapping[str, Any]) -> pd.DataFrame:
    present = {name for sample in samples for name in sample.operators}
    names = [
        name
        for name in (*LAYER_OPERATORS, *OPTIONAL_LAYER_OPERATORS, *STEP_OPERATORS)
        if name in present
    ]

    def size(sample: Sample) -> int:
        return sample.shape.num_tokens

    # Times are skewed, so the sum of medians lies below the median of the sums; a step is a sum.
    alone = {name: _medians(samples, size, _operator(name)) for name in names}
    together = _medians(samples, size, lambda s: sum(s.operators.get(n, 0) for n in names))
    tokens = sorted(together)
    times: dict[str, list[float]] = {}
    for name in names:
        share = _NS_PER_MS * (1 if name in STEP_OPERATORS else model.num_layers)
        times[name] = [
            alone[name][count]
            * together[count]
            / (sum(alone[other][count] for other in names) or 1.0)
            / share
            for count in tokens
        ]
    return mlp_rows(model, int(engine["tensor_parallel_size"]), tokens, times)


def _moe(samples: Sequence[Sample], model: ModelShape, engine: Mapping[str, Any]) -> pd.DataFrame:
    """Router and experts of one layer, by the step's tokens."""
    import pandas as pd

    times = _medians(samples, lambda sample: sample.shape.num_tokens, _operator("moe"))
    workers = int(engine["tensor_parallel_size"])
    layers = model.num_layers - model.num_dense_layers
    dealt = workers if engine.get("enable_expert_parallel") else 1
    rows = [(workers, dealt, count, round(time / layers)) for count, time in sorted(times.items())]
    return pd.DataFrame(rows, columns=[TP, EP, "num_tokens", "time_ns"])


def _attention(
    samples: Sequence[Sample], model: ModelShape, engine: Mapping[str, Any]
) -> pd.DataFrame:
    import pandas as pd

    share = model.num_layers * _NS_PER_MS
    prefill = [(*place, time / share) for place, time in _prefill_points(samples, engine).items()]
    decode = [(*place, time / share) for place, time in _decode_points(samples).items()]
    return attention_rows(
        model,
        int(engine["tensor_parallel_size"]),
        prefill=pd.DataFrame(prefill, columns=["chunk", "context", "time_ms"]),
        decode=pd.DataFrame(decode, columns=["sequences", "context", "time_ms"]),
        block_size=int(engine["block_size"]),
        max_model_len=int(engine["max_model_len"]),
        backend=str(engine["attention_backend"]),
    )


def _mixed(samples: Sequence[Sample], model: ModelShape, engine: Mapping[str, Any]) -> pd.DataFrame:
    """The joint grid, closed by the planes without decodes and without prefill."""
    import pandas as pd

    prefill = _prefill_points(samples, engine)
    rows: list[tuple[float, ...]] = [(*place, 0, 0, time) for place, time in prefill.items()]
    rows += [(0, 0, *place, time) for place, time in _decode_points(samples).items()]
    both = _medians(
        [s for s in samples if len(s.shape.prefills) == 1 and s.shape.num_decodes],
        lambda s: (*s.shape.prefills[0], s.shape.num_decodes, s.shape.decode_context),
        _operator(_KERNEL),
    )
    both = filled(levelled(both), rates_of(prefill), _longest(engine))
    both = closed(both, prefill, int(engine["max_num_batched_tokens"]) - 1)
    rows += [(*place, time) for place, time in both.items()]
    columns = ["prefill_chunk", "kv_prefill", "n_decode", "kv_decode"]
    table = pd.DataFrame(rows, columns=[*columns, "time_ns"]).sort_values(columns)
    table["time_ns"] = (table["time_ns"] / model.num_layers).round().astype("int64")
    return table


def _per_sequence(samples: Sequence[Sample]) -> pd.DataFrame:
    import pandas as pd

    rows = [
        (name, sequences, round(time))
        for name in SEQUENCE_OPERATORS
        for sequences, time in sorted(
            _medians(samples, lambda s: _sequences(s.shape), _operator(name)).items()
        )
    ]
    return pd.DataFrame(rows, columns=["operator", "sequences", "time_ns"])


def _overhead(
    samples: Sequence[Sample],
    walls: Sequence[Sample] | None,
    tables: Mapping[str, pd.DataFrame],
    model: ModelShape,
) -> pd.DataFrame:
    """Step time that no operator holds: of the same step, or of the engine that is served."""
    import pandas as pd

    expected = _expected_walls(samples if walls is None else walls)
    if walls is None:
        rest = _medians(samples, _load, lambda s: expected(s) - sum(s.operators.values()))
    else:
        priced = StepTimeModel(
            Bundle(
                path=Path(OVERHEAD),
                meta={
                    "model_shape": model.to_json(),
                    "model": model.name,
                    "dtype": model.torch_dtype,
                },
                mlp=tables[MLP],
                attention=tables[ATTENTION],
                per_sequence=tables[PER_SEQUENCE],
                mixed_attention=tables[MIXED_ATTENTION],
                moe=tables.get(MOE),
            ),
            model,
            EngineSettings(tensor_parallel_size=int(tables[MLP][TP].iloc[0])),
        )
        rest = _medians(walls, _load, lambda s: expected(s) - priced.time(_features(s)).time_ns)
    rows = [(*place, round(time)) for place, time in sorted(rest.items())]
    return pd.DataFrame(rows, columns=["num_prefill_tokens", "num_sequences", "time_ns"])


def _expected_walls(samples: Sequence[Sample]) -> Callable[[Sample], float]:
    """Times of whole steps, scaled so that their median over a point's samples is its mean.

    A request's latency is a sum of steps, and step times are skewed: a sum of medians falls short.
    One point has too few samples for a mean of its own, so the ratio is that of all points; with
    prefill apart, whose longer steps even it out.
    """
    middle = _medians(samples, lambda s: s.shape, lambda s: s.wall_ns)
    by_kind = _grouped(
        samples, lambda s: bool(s.shape.prefills), lambda s: s.wall_ns / middle[s.shape]
    )
    skew = {kind: fmean(ratios) for kind, ratios in by_kind.items()}
    return lambda sample: sample.wall_ns * skew[bool(sample.shape.prefills)]


def _features(sample: Sample) -> StepFeatures:
    shape = sample.shape
    context = round(sample.decode_context * shape.num_decodes)
    return StepFeatures(shape.prefills, shape.num_decodes, context, _sequences(shape))


def _prefill_points(
    samples: Iterable[Sample], engine: Mapping[str, Any]
) -> dict[tuple[int, ...], float]:
    """(chunk, context) to time in ns, all layers; each chunk up to its longest context."""
    times = _medians(
        [s for s in samples if _is_one_prefill(s.shape)],
        lambda s: s.shape.prefills[0],
        _operator(_KERNEL),
    )
    return filled(times, rates_of(times), _longest(engine))


def _longest(engine: Mapping[str, Any]) -> int:
    return int(engine["max_model_len"]) - 1


def _decode_points(samples: Iterable[Sample]) -> dict[tuple[int, ...], float]:
    """(sequences, context at the middle of the measured steps) to time in ns, all layers."""
    pure = [s for s in samples if not s.shape.prefills]
    # Batches at one context alone tell of the other operators; beside a grid they would be notches.
    known = {s.shape for s in pure}
    contexts_of = Counter(shape.num_decodes for shape in known)
    if max(contexts_of.values(), default=0) > 1:
        pure = [s for s in pure if contexts_of[s.shape.num_decodes] > 1]
    times = _medians(pure, lambda s: s.shape, _operator(_KERNEL))
    contexts = _medians(pure, lambda s: s.shape, lambda s: s.decode_context)
    return levelled({(s.num_decodes, round(contexts[s])): time for s, time in times.items()})


def _operator(name: str) -> Callable[[Sample], float]:
    return lambda sample: sample.operators.get(name, 0)


def _is_one_prefill(shape: Shape) -> bool:
    return len(shape.prefills) == 1 and not shape.num_decodes


def _sequences(shape: Shape) -> int:
    return len(shape.prefills) + shape.num_decodes


def _load(sample: Sample) -> tuple[int, int]:
    shape = sample.shape
    return shape.num_tokens - shape.num_decodes, _sequences(shape)


def _medians(
    samples: Iterable[Sample], place: Callable[[Sample], Any], value: Callable[[Sample], float]
) -> dict[Any, float]:
    return {where: median(values) for where, values in _grouped(samples, place, value).items()}


def _grouped(
    samples: Iterable[Sample], place: Callable[[Sample], Hashable], value: Callable[[Sample], Any]
) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = defaultdict(list)
    for sample in samples:
        groups[place(sample)].append(value(sample))
    return groups
