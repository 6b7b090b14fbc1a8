"""Texts on which a pattern would try every way to part them: read in no time all the same."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_gpusim.backends.openai.client import EventDecoder
from pytest_gpusim.deployment.engine import EngineSettings
from pytest_gpusim.deployment.settings.command_line import read_command
from pytest_gpusim.llmservingsim.identity import devices_contradict, models_contradict
from pytest_gpusim.llmservingsim.meta import read_meta
from pytest_gpusim.llmservingsim.skew import _is_label
from pytest_gpusim.published.errors import read_published_errors
from pytest_gpusim.runs.importers.shared_prompts import SentPrompt, shared_prompts

_SECONDS = 3


def errors_of(line: str) -> Callable[[Path], object]:
    def read(place: Path) -> object:
        (place / "published_errors.txt").write_text(line * 20)
        return read_published_errors(place)

    return read


def meta_of(section: str) -> Callable[[Path], object]:
    def read(place: Path) -> object:
        (place / "meta.json").write_text(f'{{"kv_cache": "{section}"}}')
        return read_meta(place / "meta.json")

    return read


def long_line(place: Path) -> None:
    decoder = EventDecoder()
    for _ in range(20_000):
        assert decoder.feed(b"x" * 2000) == []
    assert decoder.feed(b"\ndata: 1\n\n") == ["1"]


@pytest.mark.parametrize(
    "read",
    [
        errors_of("TTFT" + " " * 20_000 + "\n"),
        errors_of("TTFT Mean 1" + "," * 20_000 + "\n"),
        errors_of("TTFT" + "_|. -" * 4000 + "\n"),
        meta_of("a" * 200_000),
        meta_of("a='" * 50_000),
        lambda place: read_command("vllm serve m " + "-" * 60_000, "x"),
        lambda place: read_command("vllm serve m " + "vllm.entrypoints." * 3000, "x"),
        lambda place: EngineSettings(models=("models--a--" * 3000,)).other_model("m"),
        lambda place: devices_contradict(["9" * 200_000], ["1" * 200_000]),
        lambda place: models_contradict("llama" + "9" * 200_000 + "b", "llama2"),
        lambda place: shared_prompts([SentPrompt("a" + " " * 200_000)] * 2, [1, 1]),
        lambda place: _is_label(" " * 200_000),
        long_line,
    ],
    ids=[
        *("spaces", "commas", "separators", "one word", "quotes", "dashes", "module names"),
        *("cache folders", "devices", "models", "prompt", "label", "line of a stream"),
    ],
)
def test_nothing_takes_its_time(read: Callable[[Path], object], tmp_path: Path) -> None:
    def ring(*_: object) -> None:
        raise AssertionError(f"took more than {_SECONDS} s of the processor")

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, _SECONDS)
    try:
        read(tmp_path)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
