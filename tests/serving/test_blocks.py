"""Block bookkeeping: what is found, and what is reused first."""

from __future__ import annotations

import pytest

from pytest_gpusim.serving import BlockPool


def test_the_null_block_is_never_handed_out() -> None:
    pool = BlockPool(4, reuse_blank_first=True)
    assert pool.num_free == 3
    assert sorted(pool.take(3)) == [1, 2, 3]
    assert (pool.num_free, pool.num_used) == (0, 3)


def test_a_freed_block_is_found_until_it_is_reused_least_recently_freed_first() -> None:
    pool = BlockPool(4, reuse_blank_first=True)
    first, second, third = pool.take(3)
    for block, key in ((first, "x"), (second, "y"), (third, "z")):
        pool.publish(block, key)
    pool.release([third], 1)
    pool.release([first, second], 2)  # from the tail: third, second, first
    assert pool.find(["x", "y"], 5) == [first, second]
    assert pool.take(2) == [third, second]
    assert pool.find(["x", "y"], 5) == [first]
    assert pool.find(["y"], 5) == []


def test_a_found_block_is_shared_and_leaves_with_its_last_holder() -> None:
    pool = BlockPool(3, reuse_blank_first=True)
    (block,) = pool.take(1)
    pool.publish(block, "x")
    pool.hold([block])
    pool.release([block], 1)
    assert pool.num_free == 1
    pool.release([block], 1)
    assert pool.num_free == 2
    assert pool.count_free([block]) == 1
    pool.hold([block])
    assert pool.num_free == 1


def test_blocks_of_one_content_all_stay_findable() -> None:
    pool = BlockPool(4, reuse_blank_first=True)
    first, second, last = pool.take(3)
    pool.publish(first, "x")
    pool.publish(second, "x")
    assert pool.find(["x"], 1) == [first]
    pool.release([first], 1)
    assert pool.take(1) == [first]  # reused: its content is gone, the other's is not
    assert pool.find(["x"], 1) == [second]
    assert last not in (first, second)


@pytest.mark.parametrize("blank_first", [True, False])
def test_where_a_freed_block_without_content_goes(blank_first: bool) -> None:
    pool = BlockPool(3, reuse_blank_first=blank_first)
    full, blank = pool.take(2)
    pool.publish(full, "x")
    pool.release([full], 1)
    pool.release([blank], 0)
    assert pool.take(1) == [blank if blank_first else full]
    assert pool.find(["x"], 1) == ([full] if blank_first else [])
