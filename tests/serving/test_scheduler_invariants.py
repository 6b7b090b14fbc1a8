"""What holds of every schedule, whatever the settings and the workload."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_gpusim.serving import (
    BlockKeys,
    Completion,
    ReleaseRules,
    RequestState,
    Scheduler,
    SchedulingRules,
    Step,
)


@dataclass(frozen=True)
class Drawn:
    prompt: list[int] | None
    num_prompt_tokens: int
    max_tokens: int
    output: list[int] | None
    arrival: int


@st.composite
def workloads(draw: st.DrawFn) -> tuple[SchedulingRules, list[Drawn]]:
    block_size = draw(st.sampled_from([1, 2, 4, 7]))
    max_num_seqs = draw(st.integers(1, 5))
    longest = 30
    needed = -(-longest // block_size)
    rules = SchedulingRules(
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_seqs + draw(st.sampled_from([0, 1, 5, 40])),
        block_size=block_size,
        num_blocks=1 + needed + draw(st.integers(0, 2 * needed)),
        enable_prefix_caching=draw(st.booleans()),
        async_scheduling=draw(st.booleans()),
        long_prefill_token_threshold=draw(st.sampled_from([0, 1, 6])),
        reserve_full_sequence=draw(st.booleans()),
        release=ReleaseRules(
            reuse_blank_blocks_first=draw(st.booleans()),
            lone_prefill_uncapped=draw(st.booleans()),
        ),
    )
    requests = []
    for _ in range(draw(st.integers(1, 8))):
        length = draw(st.integers(1, 20))
        max_tokens = draw(st.integers(1, 11))
        prompt = draw(st.none() | st.lists(st.integers(0, 1), min_size=length, max_size=length))
        output = None
        if prompt is not None and draw(st.booleans()):
            output = draw(st.lists(st.integers(0, 1), min_size=max_tokens, max_size=max_tokens))
        requests.append(Drawn(prompt, length, max_tokens, output, draw(st.integers(0, 30))))
    return rules, sorted(requests, key=lambda request: request.arrival)


@settings(max_examples=300, deadline=None)
@given(workloads())
def test_every_schedule_keeps_its_promises(case: tuple[SchedulingRules, list[Drawn]]) -> None:
    rules, drawn = case
    scheduler = Scheduler(rules)
    keys = BlockKeys(rules.block_size)
    waiting = list(drawn)
    requests = []
    steps: list[Step] = []
    computed: dict[int, int] = {}
    tokens: dict[int, list[int]] = {}
    finished: dict[int, int] = {}

    while waiting or scheduler.num_unfinished or scheduler.pending:
        if len(scheduler.pending) <= rules.async_scheduling:
            while waiting and (waiting[0].arrival <= len(steps) or not scheduler.num_unfinished):
                new = waiting.pop(0)
                names = None if new.prompt is None else keys.chain(new.prompt + (new.output or []))
                requests.append(
                    scheduler.add_request(
                        len(requests), new.num_prompt_tokens, new.max_tokens, names
                    )
                )
            if scheduler.num_unfinished:
                step = scheduler.schedule()
                steps.append(step)
                check_plan(rules, scheduler, step, computed)
                assert len(steps) < 3000
                continue
        step = scheduler.pending[0]
        done: Completion = scheduler.complete(step)
        assert len(done.sampled) == step.num_sampled
        for request in done.sampled:
            tokens.setdefault(request.request_id, []).append(step.index)
        for request in done.finished:
            assert request.request_id not in finished
            finished[request.request_id] = step.index
        holding = {block for request in requests for block in request.blocks}
        assert scheduler.blocks.num_used == len(holding)

    assert scheduler.blocks.num_used == 0
    for number, (new, request) in enumerate(zip(drawn, requests, strict=True)):
        assert request.state is RequestState.FINISHED
        assert len(tokens[number]) == new.max_tokens
        assert tokens[number] == sorted(set(tokens[number])) == list(request.token_steps())
        assert finished[number] == tokens[number][-1]
        assert 0 <= request.num_cached_tokens < request.num_prompt_tokens


def check_plan(
    rules: SchedulingRules, scheduler: Scheduler, step: Step, computed: dict[int, int]
) -> None:
    """Check one step against the settings, and its totals against counts kept apart."""
    batch = step.batch()
    assert sum(count for _, count in batch) == step.num_tokens <= rules.max_num_batched_tokens
    assert all(count > 0 for _, count in batch)
    assert len({request.request_id for request, _ in batch}) == len(batch) <= rules.max_num_seqs
    assert scheduler.num_running <= rules.max_num_seqs
    assert not (step.preempted and step.admitted)
    assert 0 <= step.num_blocks_used < rules.num_blocks
    for request in step.preempted:
        computed[request.request_id] = 0
    for admission in step.admitted:
        assert admission.num_cached_tokens % rules.block_size == 0
        computed[admission.request.request_id] = admission.num_cached_tokens
    prefilling = {chunk.request.request_id for chunk in step.prefills}
    contexts = {request.request_id: computed[request.request_id] for request, _ in batch}
    decodes = [contexts[r.request_id] for r, _ in batch if r.request_id not in prefilling]
    assert (step.num_decodes, step.sum_decode_context) == (len(decodes), sum(decodes))
    assert step.max_decode_context == max(decodes, default=0)
    for chunk in step.prefills:
        assert chunk.context == contexts[chunk.request.request_id]
        if rules.long_prefill_token_threshold > 0 and step.num_running > 1:
            assert chunk.num_tokens <= rules.long_prefill_token_threshold
    for request, count in batch:
        computed[request.request_id] += count
        assert len(request.blocks) == -(-computed[request.request_id] // rules.block_size)
