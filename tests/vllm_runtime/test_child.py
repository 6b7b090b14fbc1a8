"""What the engine's process says of a failure."""

from __future__ import annotations

import pytest

from pytest_gpusim.vllm_runtime.child import _innermost


def test_an_assertion_without_words_is_told_by_its_line():
    with pytest.raises(AssertionError) as caught:
        exec(compile("scoring = 'sigmoid'\n\nassert scoring == 'softmax'", "router.py", "exec"))
    assert "(router.py:3)" in _innermost(caught.value)


def test_of_several_lines_the_last_speaks():
    assert _innermost(ValueError("a wrapper's words\n\nthe cause\n")) == "the cause"
