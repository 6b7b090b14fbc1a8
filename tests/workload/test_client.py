"""The client of a workload: the order and the times at which it sends."""

from __future__ import annotations

import asyncio
import random

import pytest

from pytest_gpusim.workload import Load, SessionTurn, WorkloadRequest
from pytest_gpusim.workload.client import LoadClient


def requests(*arrivals: int) -> list[WorkloadRequest]:
    return [WorkloadRequest(n, n, 1, 1, arrival) for n, arrival in enumerate(arrivals)]


def ids(taken: list[WorkloadRequest]) -> list[int]:
    return [request.request_id for request in taken]


def test_an_open_loop_sends_at_the_arrivals() -> None:
    client = LoadClient(requests(0, 0, 5, 9), Load(), {})
    assert (client.next_due(), ids(client.take(0))) == (0, [0, 1])
    assert (client.next_due(), ids(client.take(4))) == (5, [])
    assert ids(client.take(20)) == [2, 3]
    assert client.next_due() is None
    assert client.arrival_ns == {0: 0, 1: 0, 2: 5, 3: 9}


def test_a_limit_holds_back_until_an_answer_comes() -> None:
    client = LoadClient(requests(0, 0, 0, 30, 90), Load(2), {})
    assert ids(client.take(0)) == [0, 1]
    assert client.next_due() is None  # not before an answer
    client.done(1, 10)
    assert (client.next_due(), ids(client.take(10))) == (10, [2])
    client.done(0, 20)
    assert client.next_due() == 30  # a free client waits for the next arrival
    client.done(2, 40)
    assert ids(client.take(50)) == [3]
    assert (client.next_due(), ids(client.take(99))) == (90, [4])
    # When each could be sent: at an answer, or at its arrival while a client was free.
    assert client.arrival_ns == {0: 0, 1: 0, 2: 10, 3: 30, 4: 90}


def test_turns_are_due_a_think_time_after_the_answer() -> None:
    sessions = {0: SessionTurn(7, 0, 99), 2: SessionTurn(7, 1, 5), 3: SessionTurn(7, 2, 0)}
    client = LoadClient(requests(0, 12, 12, 12), Load(), sessions)
    assert ids(client.take(0)) == [0]
    client.done(0, 10)
    assert client.next_due() == 12
    assert ids(client.take(12)) == [1]
    assert (client.next_due(), ids(client.take(15))) == (15, [2])
    assert client.next_due() is None
    client.done(2, 16)
    assert ids(client.take(16)) == [3]
    assert client.arrival_ns[3] == 16


def test_at_one_time_first_turns_go_first_and_later_ones_as_the_answers_came() -> None:
    sessions = {
        0: SessionTurn(0, 0),
        1: SessionTurn(1, 0),
        2: SessionTurn(0, 1),
        3: SessionTurn(1, 1),
    }
    client = LoadClient(requests(0, 0, 0, 0, 50), Load(), sessions)
    assert ids(client.take(0)) == [0, 1]
    client.done(1, 50)
    client.done(0, 50)
    assert ids(client.take(50)) == [4, 3, 2]


def test_what_was_refused_is_not_sent_and_holds_nobody_back() -> None:
    sessions = {0: SessionTurn(0, 0), 2: SessionTurn(0, 1, 4)}
    client = LoadClient(requests(0, 0, 0), Load(1), sessions, refused=[0])
    assert ids(client.take(0)) == [1]
    client.done(1, 3)
    assert (client.next_due(), ids(client.take(10))) == (4, [2])
    assert client.arrival_ns == {0: 0, 1: 0, 2: 4}


@pytest.mark.parametrize("seed", range(5))
def test_a_limit_lets_through_as_the_semaphore_of_vllms_client_does(seed: int) -> None:
    """`vllm.benchmarks.serve`: a task each, in input order, under one `asyncio.Semaphore`."""
    stream = random.Random(seed)
    count, limit = 40, stream.choice([1, 3, 8])
    # What is answered is drawn from what is under way, several at a time.
    picks = [(stream.random(), stream.randint(1, limit)) for _ in range(count)]

    def answered(under_way: list[int], pick: tuple[float, int]) -> list[int]:
        return random.Random(pick[0]).sample(under_way, min(pick[1], len(under_way)))

    async def through_semaphore() -> list[int]:
        semaphore = asyncio.Semaphore(limit)
        sent: list[int] = []
        ends = [asyncio.get_running_loop().create_future() for _ in range(count)]

        async def one(number: int) -> None:
            async with semaphore:
                sent.append(number)
                await ends[number]

        tasks = [asyncio.create_task(one(number)) for number in range(count)]
        for pick in picks:
            for _ in range(5):
                await asyncio.sleep(0)
            for number in answered([n for n in sent if not ends[n].done()], pick):
                ends[number].set_result(None)
        for task in tasks:
            task.cancel()
        return sent

    expected = asyncio.run(through_semaphore())
    client = LoadClient(requests(*[0] * count), Load(limit), {})
    sent: list[int] = []
    done: set[int] = set()
    for now, pick in enumerate(picks):
        sent += ids(client.take(now))
        for number in answered([n for n in sent if n not in done], pick):
            done.add(number)
            client.done(number, now)
    assert sent == expected
