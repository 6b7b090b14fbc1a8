"""Step times against closed forms computed by hand (see ``tests/factories.py``)."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pytest_gpusim.bundle import Bundle
from pytest_gpusim.bundle.skew import COLUMNS
from pytest_gpusim.errors import InputError
from pytest_gpusim.serving.attention_grids import attention_grids
from pytest_gpusim.serving.interpolation import Scattered
from pytest_gpusim.serving.steptime import StepFeatures, StepTimeModel
from tests.factories import (
    CONTEXT_POINTS,
    ENGINE,
    LAYER_NS,
    TINY,
    TOKEN_POINTS,
    decode_attention_ns,
    hand_step_ns,
    make_bundle,
    mixed_attention_ns,
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "plain")


@pytest.fixture(scope="module")
def mixed_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "mixed", mixed=True)


def features(chunks: list[tuple[int, int]], decodes: list[int]) -> StepFeatures:
    return StepFeatures(
        chunks,
        len(decodes),
        sum(decodes),
        len(chunks) + len(decodes),
        min(decodes, default=0),
        max(decodes, default=0),
    )


STEPS = [
    ([(1, 0)], []),
    ([(100, 0)], []),
    ([(37, 113), (16, 0)], []),
    ([], [5]),
    ([], [16, 100, 1000]),
    ([(77, 300)], [40, 41, 900]),
    ([(3, 0)], [250] * 200),
]


@pytest.mark.parametrize(("chunks", "decodes"), STEPS)
def test_composed_attention_matches_the_closed_form(bundle, chunks, decodes):
    model = StepTimeModel(bundle, TINY, ENGINE)
    found = model.time(features(chunks, decodes))
    assert found.time_ns == pytest.approx(hand_step_ns(chunks, decodes), abs=1)
    assert not found.extrapolated


# Below the joint grid's smallest chunk, 16 tokens, other rules hold (tested on their own).
@pytest.mark.parametrize(
    ("chunks", "decodes"), [s for s in STEPS if not s[0] or sum(c for c, _ in s[0]) >= 16]
)
def test_joint_grid_matches_the_closed_form(mixed_bundle, chunks, decodes):
    model = StepTimeModel(mixed_bundle, TINY, ENGINE)
    found = model.time(features(chunks, decodes))
    assert found.time_ns == pytest.approx(hand_step_ns(chunks, decodes, mixed=True), abs=1)
    assert not found.extrapolated


def test_between_no_prefill_and_the_smallest_chunk_the_grid_is_linear(mixed_bundle):
    model = StepTimeModel(mixed_bundle, TINY, ENGINE)
    found = model.time(features([(4, 512)], [100, 300])).mixed_ns
    pure = mixed_attention_ns(0, 0, 2, 200)
    smallest = mixed_attention_ns(16, 512, 2, 200)
    assert found == pytest.approx(TINY.num_layers * (pure + 4 / 16 * (smallest - pure)))


def test_breakdown_sums_to_the_step_and_names_each_operator_once(bundle):
    model = StepTimeModel(bundle, TINY, ENGINE)
    step = features([(50, 64)], [10, 20])
    parts = model.breakdown(step)
    assert sum(parts.values()) == pytest.approx(model.time(step).time_ns, abs=1)
    base, slope = LAYER_NS["mlp_up_proj"]
    assert parts["mlp_up_proj"] == pytest.approx(TINY.num_layers * (base + slope * 52))
    assert {"lm_head", "sampler", "emb", "final_layernorm", "qk_norm", "attn_kv_cache_save"} < set(
        parts
    )


def test_totals_are_the_sum_of_the_steps(mixed_bundle):
    model = StepTimeModel(mixed_bundle, TINY, ENGINE)
    steps = [features(chunks, decodes) for chunks, decodes in STEPS]
    times = [model.time(step) for step in steps]
    sizes = [sum(tokens for tokens, _ in step.chunks) + step.num_decodes for step in steps]
    sequences = [step.num_sequences for step in steps]
    kinds = [time[2:] for time in times]
    totals = model.totals(zip(sizes, sequences, kinds, strict=True))
    assert sum(totals.values()) == pytest.approx(sum(t.time_ns for t in times), abs=len(steps))


@pytest.mark.parametrize(
    ("chunks", "decodes"),
    [([(2100, 0)], []), ([(16, 4200)], []), ([], [100] * 263), ([], [5000])],
    ids=["tokens", "prefill-context", "sequences", "decode-context"],
)
def test_beyond_the_profile_goes_on_linearly_and_is_flagged(bundle, chunks, decodes):
    found = StepTimeModel(bundle, TINY, ENGINE).time(features(chunks, decodes))
    assert found.extrapolated
    expected = hand_step_ns(chunks, decodes)
    assert found.time_ns == pytest.approx(expected, abs=1)


def test_a_hair_beyond_the_profile_goes_on_linearly_too(bundle):
    # 2048 tokens are profiled; up to 2% more is no worse than between two points.
    found = StepTimeModel(bundle, TINY, ENGINE).time(features([(2088, 0)], []))
    assert not found.extrapolated
    assert found.time_ns == pytest.approx(hand_step_ns([(2088, 0)], []), abs=1)


def test_more_work_never_takes_less_time(mixed_bundle):
    model = StepTimeModel(mixed_bundle, TINY, ENGINE)
    stream = random.Random(5)
    for _ in range(300):
        chunks = [(stream.randint(1, 900), stream.randint(0, 5000)) for _ in range(2)]
        decodes = [stream.randint(1, 5000) for _ in range(stream.randint(1, 200))]
        less = model.time(features(chunks, decodes)).time_ns
        longer = [(tokens + 7, context + 11) for tokens, context in chunks]
        assert model.time(features(longer, [*decodes, max(decodes)])).time_ns >= less


def test_without_overhead_table_no_engine_time_is_made_up(tmp_path: Path):
    model = StepTimeModel(make_bundle(tmp_path / "b", overhead=False), TINY, ENGINE)
    step = features([(8, 0)], [])
    assert model.time(step).time_ns == pytest.approx(
        hand_step_ns([(8, 0)], [], overhead=False), abs=1
    )


def test_scattered_overhead_is_exact_at_its_points(tmp_path: Path):
    points = [(0, 1, 500), (0, 9, 900), (130, 2, 1700), (300, 5, 2500), (40, 40, 3000)]
    table = pd.DataFrame(points, columns=["num_prefill_tokens", "num_sequences", "time_ns"])
    model = StepTimeModel(make_bundle(tmp_path / "b", tables={"overhead.csv": table}), TINY, ENGINE)
    for prefill, sequences, time in points:
        chunks = [(prefill, 0)] if prefill else []
        step = features(chunks, [16] * (sequences - len(chunks)))
        assert model.time(step).overhead_ns == pytest.approx(time)
    assert 500 <= model.time(features([], [16] * 5)).overhead_ns <= 900


@pytest.mark.parametrize("seed", range(5))
def test_scattered_points_are_interpolated_as_scipy_does(seed: int):
    from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator

    numbers = random.Random(seed)
    # Many on one line, as steps without prefill are.
    points = [(0, n) for n in range(1, 20)]
    points += [(numbers.randrange(1, 300), numbers.randrange(1, 20)) for _ in range(20)]
    points = sorted({*points, (300, 20)})
    values = [numbers.uniform(1e5, 1e7) for _ in points]
    low, high = np.min(points, axis=0), np.max(points, axis=0)
    unit = (np.array(points) - low) / (high - low)
    linear, nearest = LinearNDInterpolator(unit, values), NearestNDInterpolator(unit, values)
    found = Scattered(points, values)
    for point in [
        *points,
        *((numbers.uniform(0, 330), numbers.uniform(0, 22)) for _ in range(200)),
    ]:
        place = (np.clip(point, low, high) - low) / (high - low)
        inside = float(linear(*place))
        expected = float(nearest(*place)) if np.isnan(inside) else inside
        assert found.at(*point)[0] == pytest.approx(expected, rel=1e-9)


def test_all_reduces_twice_a_layer(tmp_path: Path):
    bundle = make_bundle(tmp_path / "b", tensor_parallel_sizes=(1, 2))
    one = StepTimeModel(bundle, TINY, ENGINE)
    two = StepTimeModel(bundle, TINY, dataclasses.replace(ENGINE, tensor_parallel_size=2))
    step = features([(10, 0)], [])
    # 1000 ns + 1 ns per byte of 10 tokens x hidden size x 4 bytes
    expected = 2 * TINY.num_layers * (1000 + 10 * TINY.hidden_size * 4)
    assert two.time(step).time_ns - one.time(step).time_ns == pytest.approx(expected, abs=1)
    assert two.breakdown(step)["all_reduce"] == pytest.approx(expected)


def test_a_size_that_was_not_profiled_is_refused(bundle):
    settings = dataclasses.replace(ENGINE, tensor_parallel_size=4)
    with pytest.raises(InputError, match=r"tensor_parallel_size is 4, profiled are 1"):
        StepTimeModel(bundle, TINY, settings)


def test_another_model_is_refused_by_name(bundle):
    other = dataclasses.replace(TINY, name="other/model", num_layers=3)
    with pytest.raises(
        InputError,
        match=r"num_layers: the bundle is of 2, other/model has 3 \(profiled is tiny/model",
    ):
        StepTimeModel(bundle, other, ENGINE)


@pytest.mark.parametrize("enabled", [True, False])
def test_skew_fit_counts_only_where_the_profile_enables_it(tmp_path: Path, enabled: bool):
    box = dict.fromkeys(COLUMNS, None) | {"num_decodes_above": 1, "num_decodes_upto": 4}
    bundle = make_bundle(
        tmp_path / "b",
        tables={"skew_fit.csv": pd.DataFrame([{**box, "alpha": 0.25}])},
        meta={"skew_fit": {"enabled": enabled, "default": 0.5}},
    )
    model = StepTimeModel(bundle, TINY, ENGINE)
    for decodes, alpha in (([100, 900], 0.25), ([100, 100], 0.0), ([10] * 5 + [600], 0.5)):
        mean = sum(decodes) / len(decodes)
        low = decode_attention_ns(len(decodes), mean)
        high = decode_attention_ns(len(decodes), max(decodes))
        expected = TINY.num_layers * (low + (alpha if enabled else 0) * (high - low))
        assert model.time(features([], decodes)).decode_ns == pytest.approx(expected)


def test_six_thousand_steps_of_256_sequences_cost_well_below_a_second(mixed_bundle):
    import time

    model = StepTimeModel(mixed_bundle, TINY, ENGINE)
    stream = random.Random(1)
    steps = [
        StepFeatures(
            [(stream.randint(1, 900), stream.randint(0, 5000))] if number % 3 == 0 else [],
            255,
            255 * stream.randint(100, 3000) + number,
            256 if number % 3 == 0 else 255,
        )
        for number in range(6000)
    ]
    start = time.perf_counter()
    for step in steps:
        model.time(step)
    assert time.perf_counter() - start < 0.8


def test_profiled_points_are_returned_exactly(bundle):
    model = StepTimeModel(bundle, TINY, ENGINE)
    for tokens in TOKEN_POINTS:
        for context in CONTEXT_POINTS:
            row = bundle.attention[
                (bundle.attention["prefill_chunk_size"] == tokens)
                & (bundle.attention["kv_cache_size"] == context)
            ]
            found = model.time(features([(tokens, context)], [])).prefill_ns / TINY.num_layers
            assert found == row["time_stats.attn_prefill.median"].iloc[0] * 1e6


def test_chunks_in_one_kernel_do_not_attend_to_each_other(mixed_bundle):
    model = StepTimeModel(mixed_bundle, TINY, ENGINE)
    together = model.time(features([(64, 0)] * 4, [])).prefill_ns
    whole = model.time(features([(256, 0)], [])).prefill_ns
    largest = model.time(features([(64, 0)], [])).prefill_ns
    # Four chunks of 64 are as one of 256 at context 32 - 128, 3 ns a token of context and layer.
    assert together == pytest.approx(whole - 96 * 3 * TINY.num_layers)
    assert largest < together < whole
    resumed = model.time(features([(64, 256)] * 4, [])).prefill_ns
    assert resumed == pytest.approx(together + 256 * 3 * TINY.num_layers)


def test_two_kernels_where_the_grid_has_no_mixed_points(tmp_path):
    grid = make_bundle(tmp_path / "made", mixed=True).mixed_attention
    planes = grid[(grid["prefill_chunk"] == 0) | (grid["n_decode"] == 0)].astype("int64")
    bundle = make_bundle(tmp_path / "bundle", tables={"mixed_attention.csv": planes})
    model = StepTimeModel(bundle, TINY, ENGINE)
    alone = model.time(features([(64, 256), (64, 256)], []))
    decodes = model.time(features([], [256] * 16))
    both = model.time(features([(64, 256), (64, 256)], [256] * 16))
    assert (both.prefill_ns, both.decode_ns) == (alone.prefill_ns, decodes.decode_ns)
    # One chunk of 128 at context 256 + 32 - 64.
    assert alone.prefill_ns == pytest.approx(TINY.num_layers * mixed_attention_ns(128, 224, 0, 0))


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        ([(16, 0, 0, 0), (16, 0, 0, 5), (0, 0, 1, 8)], "prefill"),
        ([(16, 0, 0, 0), (0, 0, 1, 8), (0, 7, 1, 8)], "decodes"),
    ],
)
def test_a_context_of_nothing_makes_no_second_point(
    rows: list[tuple[float, ...]], kind: str
) -> None:
    table = (rows, [float(number) for number in range(len(rows))])
    with pytest.raises(InputError, match=rf"mixed_attention\.csv: has rows of the same {kind}"):
        attention_grids(None, None, table, Path("bundle"))
