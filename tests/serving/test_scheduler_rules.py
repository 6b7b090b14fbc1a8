"""Each scheduling rule on a schedule small enough to work out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from pytest_gpusim.errors import UsageError
from pytest_gpusim.serving import (
    BlockKeys,
    Scheduler,
    SchedulingRules,
    Step,
    release_rules,
)

RULES = SchedulingRules(
    max_num_seqs=4,
    max_num_batched_tokens=8,
    block_size=4,
    num_blocks=101,
    release=release_rules("0.32.0"),
)


def batch(step: Step) -> dict[str, int]:
    """Tokens of each request in a step, in batch order."""
    return {str(request.request_id): tokens for request, tokens in step.batch()}


def run(scheduler: Scheduler, steps: int) -> list[dict[str, int]]:
    """Plan and complete ``steps`` steps, one at a time."""
    batches = []
    for _ in range(steps):
        step = scheduler.schedule()
        batches.append(batch(step))
        scheduler.complete(step)
    return batches


def test_running_requests_come_first_and_share_one_token_budget() -> None:
    scheduler = Scheduler(RULES)
    scheduler.add_request("a", 10, 3)
    scheduler.add_request("b", 7, 2)
    # 8 tokens a step. a's prompt takes all of step 0 and 2 of step 1, b gets the other 6 and its
    # last one beside a's decode. a has its 3 tokens after steps 1-3, b its 2 after steps 2-3.
    assert run(scheduler, 4) == [{"a": 8}, {"a": 2, "b": 6}, {"a": 1, "b": 1}, {"a": 1, "b": 1}]
    assert scheduler.num_unfinished == 0


def test_a_request_without_a_seat_waits_for_one() -> None:
    scheduler = Scheduler(replace(RULES, max_num_seqs=2))
    for name in "abc":
        scheduler.add_request(name, 1, 2 if name == "a" else 3)
    # a ends with step 1; c takes its seat in step 2.
    assert run(scheduler, 4) == [
        {"a": 1, "b": 1},
        {"a": 1, "b": 1},
        {"b": 1, "c": 1},
        {"c": 1},
    ]


def test_totals_describe_the_step() -> None:
    scheduler = Scheduler(replace(RULES, max_num_batched_tokens=6))
    scheduler.add_request("a", 2, 9)
    scheduler.add_request("b", 3, 9)
    scheduler.add_request("c", 9, 9)
    run(scheduler, 2)  # {a 2, b 3, c 1}, {a 1, b 1, c 4}
    step = scheduler.schedule()
    # a and b decode with 3 and 4 tokens in the cache; c prefills its last 4 tokens after 5.
    assert batch(step) == {"a": 1, "b": 1, "c": 4}
    assert (step.num_decodes, step.sum_decode_context, step.max_decode_context) == (2, 7, 4)
    assert (step.num_prefill_tokens, step.sum_prefill_context) == (4, 5)
    assert (step.num_tokens, step.num_sampled) == (6, 3)
    # Slots for 4, 5 and 9 tokens: 1 + 2 + 3 blocks.
    assert (step.num_running, step.num_waiting, step.num_blocks_used) == (3, 0, 6)


def test_a_request_without_a_block_preempts_the_last_one_and_nothing_is_admitted() -> None:
    # 4 usable blocks of 4. a and b hold 2 each from step 1 on and are full after step 4.
    scheduler = Scheduler(replace(RULES, num_blocks=5, enable_prefix_caching=False))
    scheduler.add_request("a", 4, 8)
    scheduler.add_request("b", 4, 8)
    assert run(scheduler, 5) == [{"a": 4, "b": 4}] + 4 * [{"a": 1, "b": 1}]
    scheduler.add_request("c", 1, 1)
    step = scheduler.schedule()
    # a's ninth token takes one of b's two blocks; c would fit in the other, but not in this step.
    assert batch(step) == {"a": 1}
    assert [request.request_id for request in step.preempted] == ["b"]
    scheduler.complete(step)
    # b, at the head of the queue, has 4 + 5 tokens: 3 blocks, 1 is free. c is behind it. a's
    # eighth token comes with step 7; then b computes its 9 tokens again, 8 (the budget) in step 8
    # and 1 in step 9, beside c.
    assert run(scheduler, 5) == [{"a": 1}, {"a": 1}, {"b": 8}, {"b": 1, "c": 1}, {"b": 1}]
    assert batch(scheduler.schedule()) == {"b": 1}


def test_the_last_running_request_may_preempt_itself() -> None:
    # 3 usable blocks: a holds 2 (5 tokens), b 1 (4 tokens) and wants another.
    scheduler = Scheduler(replace(RULES, num_blocks=4, max_num_batched_tokens=9))
    scheduler.add_request("a", 5, 3)
    scheduler.add_request("b", 4, 3)
    run(scheduler, 1)
    step = scheduler.schedule()
    assert batch(step) == {"a": 1}
    assert [request.request_id for request in step.preempted] == ["b"]
    assert scheduler.num_waiting == 1


@pytest.mark.parametrize(("reserve", "second"), [(True, {"a": 1}), (False, {"a": 1, "b": 7})])
def test_admission_asks_for_the_whole_sequence(reserve: bool, second: dict[str, int]) -> None:
    # 6 usable blocks. In step 1 a holds 3; b's 16 tokens want 4 of the other 3, its chunk of 7
    # only 2. c, which would fit, does not overtake.
    scheduler = Scheduler(replace(RULES, num_blocks=7, reserve_full_sequence=reserve))
    scheduler.add_request("a", 8, 3)
    scheduler.add_request("b", 16, 1)
    scheduler.add_request("c", 1, 1)
    assert run(scheduler, 2) == [{"a": 8}, second]


def test_a_prefix_hit_leaves_the_last_token_and_is_found_within_the_step() -> None:
    scheduler = Scheduler(replace(RULES, max_num_batched_tokens=20))
    keys = BlockKeys(4).chain(range(8))
    for name in "ab":
        scheduler.add_request(name, 8, 1, keys)
    step = scheduler.schedule()
    # b finds a's first block; its second holds its last token, (8 - 1) // 4 = 1.
    assert batch(step) == {"a": 8, "b": 4}
    assert [admission.num_cached_tokens for admission in step.admitted] == [0, 4]
    assert step.num_blocks_used == 3


def test_prompts_that_differ_in_their_first_block_share_nothing_after_it() -> None:
    chain = BlockKeys(2).chain
    assert chain([1, 2, 3, 4, 5]) == chain([1, 2, 3, 4])
    assert chain([9, 2, 3, 4])[1] != chain([1, 2, 3, 4])[1]


def test_a_resumed_request_finds_what_is_left_of_its_own_blocks() -> None:
    # As in the test of preemption: a takes one of b's two blocks, the one freed first, b's tail.
    scheduler = Scheduler(replace(RULES, num_blocks=5))
    scheduler.add_request("a", 4, 8)
    b = scheduler.add_request("b", 4, 8)
    run(scheduler, 8)  # a ends with step 7
    step = scheduler.schedule()
    # 9 tokens, of which the first block is still there: the second held generated tokens.
    assert batch(step) == {"b": 5}
    assert [admission.num_cached_tokens for admission in step.admitted] == [4]
    assert b.num_cached_tokens == 0  # when it was first admitted
    assert b.num_preemptions == 1


def test_known_output_is_found_by_a_later_prompt() -> None:
    scheduler = Scheduler(RULES)
    keys = BlockKeys(4)
    scheduler.add_request("a", 3, 4, keys.chain([1, 2, 3, 4, 5, 6, 7]))
    run(scheduler, 1)
    scheduler.add_request("b", 5, 1, keys.chain([1, 2, 3, 4, 9]))
    step = scheduler.schedule()
    # a's decode of step 1 computes its fourth token, 4, which fills its block.
    assert [admission.num_cached_tokens for admission in step.admitted] == [4]


@pytest.mark.parametrize(("arrival", "cached"), [(1, 0), (2, 4)])
def test_asynchronous_a_block_with_a_token_in_flight_is_not_found(
    arrival: int, cached: int
) -> None:
    scheduler = Scheduler(replace(RULES, async_scheduling=True))
    keys = BlockKeys(4)
    scheduler.add_request("a", 3, 4, keys.chain([1, 2, 3, 4, 5, 6, 7]))
    steps = [scheduler.schedule()]
    # When step 1 is planned, a's token 4 is still computed by step 0; for step 2 it is known.
    for number in (1, 2):
        if number == arrival:
            scheduler.add_request("b", 5, 1, keys.chain([1, 2, 3, 4, 9]))
        steps.append(scheduler.schedule())
        scheduler.complete(steps[number - 1])
    assert [a.num_cached_tokens for a in steps[arrival].admitted] == [cached]


def test_asynchronous_a_last_token_in_flight_keeps_its_seat() -> None:
    scheduler = Scheduler(replace(RULES, async_scheduling=True, max_num_seqs=2))
    scheduler.add_request("a", 2, 2)
    scheduler.add_request("b", 2, 4)
    scheduler.add_request("c", 2, 1)
    first, second = scheduler.schedule(), scheduler.schedule()
    assert [batch(first), batch(second)] == [{"a": 2, "b": 2}, {"a": 1, "b": 1}]
    assert scheduler.complete(first).finished == []
    third = scheduler.schedule()  # a's last token is in step 1, and its seat is taken
    assert batch(third) == {"b": 1}
    assert [request.request_id for request in scheduler.complete(second).finished] == ["a"]
    assert batch(scheduler.schedule()) == {"b": 1, "c": 2}


def test_asynchronous_a_preempted_request_may_finish_in_the_queue() -> None:
    # 3 usable blocks, all held after step 0: a 1, b 2. b's only token comes with its prefill.
    rules = replace(RULES, async_scheduling=True, num_blocks=4, max_num_batched_tokens=9)
    scheduler = Scheduler(rules)
    scheduler.add_request("a", 4, 5)
    b = scheduler.add_request("b", 5, 1)
    first, second = scheduler.schedule(), scheduler.schedule()
    assert batch(second) == {"a": 1}
    assert second.preempted == [b]
    done = scheduler.complete(first)
    assert [request.request_id for request in done.sampled] == ["a", "b"]
    assert done.finished == [b]
    assert scheduler.num_waiting == 0
    assert list(b.token_steps()) == [0]


@pytest.mark.parametrize(("version", "lone"), [("0.19.0", 4), ("0.30.0", 4), ("0.31.0", 8)])
def test_long_prefills_are_capped(version: str, lone: int) -> None:
    rules = replace(RULES, long_prefill_token_threshold=4, release=release_rules(version))
    scheduler = Scheduler(rules)
    scheduler.add_request("a", 20, 1)
    assert run(scheduler, 1) == [{"a": lone}]  # from 0.31 on not while it is alone
    scheduler.add_request("b", 10, 1)
    assert run(scheduler, 1) == [{"a": 4, "b": 4}]


def test_a_preempted_request_notes_the_steps_of_its_tokens() -> None:
    scheduler = Scheduler(replace(RULES, num_blocks=5, enable_prefix_caching=False))
    a = scheduler.add_request("a", 4, 8)
    b = scheduler.add_request("b", 4, 8)
    run(scheduler, 12)
    assert list(a.token_steps()) == list(range(8))
    # Preempted in step 5; computes its 9 tokens in steps 8 and 9, and goes on.
    assert list(b.token_steps()) == [0, 1, 2, 3, 4, 9, 10, 11]


def test_max_model_len_ends_a_request() -> None:
    scheduler = Scheduler(replace(RULES, max_model_len=8))
    request = scheduler.add_request("a", 6, 100)
    run(scheduler, 2)
    assert request.num_output_tokens == 2
    assert scheduler.num_unfinished == 0


@pytest.mark.parametrize(
    ("rules", "tokens", "words"),
    [
        (RULES, (0, 1), "at least one"),
        (RULES, (1, 0), "at least one"),
        (replace(RULES, max_model_len=8), (8, 1), "max_model_len 8"),
        (replace(RULES, num_blocks=3), (8, 2), "need 3 KV blocks of 4, the cache has 2"),
    ],
)
def test_a_request_that_can_never_run_is_refused(
    rules: SchedulingRules, tokens: Sequence[int], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        Scheduler(rules).add_request(7, *tokens)


def test_a_request_that_just_fits_runs() -> None:
    # The last token is never computed: 8 prompt tokens and 1 output token fit in 2 blocks.
    scheduler = Scheduler(replace(RULES, num_blocks=3))
    scheduler.add_request("a", 8, 1)
    assert run(scheduler, 1) == [{"a": 8}]
    assert scheduler.num_unfinished == 0


def test_steps_are_completed_in_order_and_in_time() -> None:
    scheduler = Scheduler(RULES)
    scheduler.add_request("a", 1, 3)
    step = scheduler.schedule()
    with pytest.raises(RuntimeError, match="complete the oldest"):
        scheduler.schedule()
    scheduler.complete(step)
    with pytest.raises(RuntimeError, match="order of planning"):
        scheduler.complete(step)
