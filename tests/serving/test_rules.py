"""Which rules an engine's settings and release stand for."""

from __future__ import annotations

import pytest

from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.errors import UsageError
from pytest_gpusim.serving import SchedulingRules, release_is_known, release_rules

LIMITS = EngineSettings(
    max_num_seqs=8, max_num_batched_tokens=64, block_size=16, num_gpu_blocks=100
)


@pytest.mark.parametrize(
    ("version", "known", "blank_first", "lone_uncapped"),
    [
        ("0.19.0", True, False, False),
        ("v0.22.1", True, False, False),
        ("0.23.0+cpu", True, False, False),
        ("0.24.0", True, True, False),
        ("0.30.2", True, True, False),
        ("0.31.0", True, True, True),
        ("0.32.1.dev3", True, True, True),
        ("0.33.0", False, True, True),
        ("1.0", False, True, True),
        ("0.9.2", False, False, False),
        ("nightly", False, True, True),
        ("0.1.dev1+g0123abc", False, True, True),
        ("0.11.2.dev3+g0123abc", False, False, False),
        (None, False, True, True),
    ],
)
def test_releases(version: str | None, known: bool, blank_first: bool, lone_uncapped: bool) -> None:
    assert release_is_known(version) is known
    rules = release_rules(version)
    assert rules.reuse_blank_blocks_first is blank_first
    assert rules.lone_prefill_uncapped is lone_uncapped


def test_unset_flags_take_vllms_defaults() -> None:
    rules = SchedulingRules.for_release("0.19.0", LIMITS)
    assert rules.enable_prefix_caching
    assert rules.reserve_full_sequence
    assert not rules.async_scheduling
    assert rules.long_prefill_token_threshold == 0
    assert rules.max_model_len is None
    assert rules.num_blocks == 100
    assert rules.release == release_rules("0.19.0")


def test_stated_flags_are_taken() -> None:
    settings = EngineSettings(
        **LIMITS.to_json(),
        max_model_len=500,
        enable_prefix_caching=False,
        async_scheduling=True,
        long_prefill_token_threshold=32,
        scheduler_reserve_full_isl=False,
    )
    rules = SchedulingRules.for_release("0.32.0", settings)
    assert (rules.enable_prefix_caching, rules.async_scheduling) == (False, True)
    assert (rules.long_prefill_token_threshold, rules.reserve_full_sequence) == (32, False)
    assert rules.max_model_len == 500


def test_a_missing_limit_is_named() -> None:
    with pytest.raises(UsageError, match="lack max_num_seqs, num_gpu_blocks:"):
        SchedulingRules.for_release(None, EngineSettings(max_num_batched_tokens=64, block_size=16))


def test_limits_that_vllm_refuses_are_refused() -> None:
    with pytest.raises(UsageError, match="max_num_batched_tokens"):
        SchedulingRules(max_num_seqs=9, max_num_batched_tokens=8, block_size=16, num_blocks=9)
    with pytest.raises(UsageError, match="num_blocks is 1"):
        SchedulingRules(max_num_seqs=1, max_num_batched_tokens=8, block_size=16, num_blocks=1)
