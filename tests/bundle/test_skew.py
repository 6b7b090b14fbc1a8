"""The skew fit: which alpha holds for which batch."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from pytest_gpusim.bundle.skew import COLUMNS, SkewFit


def table(*boxes: dict[str, float]) -> pd.DataFrame:
    rows = [dict.fromkeys(COLUMNS, math.nan) | box for box in boxes]
    return pd.DataFrame(rows, columns=list(COLUMNS))


FIT = table(
    {"num_decodes_upto": 8, "evenness_upto": 0.15, "kv_prefill_upto": 0, "alpha": 0.1},
    {"num_decodes_above": 8, "evenness_upto": 0.15, "kv_prefill_upto": 0, "alpha": 0.2},
    {"evenness_above": 0.15, "gap_above": 1.5, "alpha": -0.3},
)


def alpha(fit: SkewFit, **batch: float) -> float:
    usual = {"prefill_tokens": 0, "kv_prefill": 0, "num_decodes": 4, "evenness": 0.1, "kv_max": 900}
    return fit.alpha(**{**usual, **batch})


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        ({}, 0.1),
        ({"num_decodes": 8}, 0.1),
        ({"num_decodes": 9}, 0.2),
        ({"kv_prefill": 1}, 0.05),
        ({"evenness": 0.2}, 0.05),
        ({"evenness": 0.2, "gap": 2.0}, -0.3),
        ({"num_decodes": 1}, 0.0),
    ],
)
def test_alpha_is_that_of_the_box(batch, expected):
    fit = SkewFit.from_table(FIT, {"enabled": True, "default": 0.05})
    assert alpha(fit, **batch) == expected
    assert alpha(fit, **batch) == expected


def test_a_fit_that_is_not_enabled_is_none():
    assert SkewFit.from_table(FIT, {"enabled": False}) is None
    assert SkewFit.from_table(None, {"enabled": True}) is None


def test_without_boxes_the_default_holds():
    fit = SkewFit.from_table(table(), {"enabled": True, "default": 0.4})
    assert alpha(fit) == 0.4
