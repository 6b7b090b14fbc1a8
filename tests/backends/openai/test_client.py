"""Server-sent events out of arbitrary pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("aiohttp", reason="aiohttp is not installed (extra 'server')")

from pytest_gpusim.backends.openai.client import EventDecoder

STREAM = (
    ': ping\n\ndata: {"a": "é"}\n\nevent: x\ndata:one\r\ndata: two\r\n\r\n\n\ndata: [DONE]\n\n'
).encode()


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_events_do_not_depend_on_how_the_stream_is_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    decoder = EventDecoder()
    events = [event for start, end in pairwise(edges) for event in decoder.feed(STREAM[start:end])]
    assert events == ['{"a": "é"}', "one\ntwo", "[DONE]"]


def test_an_event_without_its_blank_line_is_not_complete() -> None:
    assert EventDecoder().feed(b"data: {}\n") == []
