"""Readers of what people type: the texts of options."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tests.fuzz.readers import Reader

_TEXTS = {
    "state": ('warmup={"requests": 8}', "clock=client", "sim.profile.engine_time.time_ns=5"),
    "check": ("ttft_p50=0.10,tpot_p50=5%:0.1ms", "goodput=10%", "ttft_rank_correlation=0.8"),
    "slo": ("ttft_p90=500ms,tpot_p90=40ms", "ttft=200ms,tpot=20ms"),
    "columns": ("arrival=ts,prefill=in,decode=out,unit=s", "arrival=a.b,ttft=ttft_ms"),
    "lengths": ("256:1024", "128"),
    "seconds": ("0.5:2", "1e-3"),
    "time": ("200us", "1.5ms"),
    "param": ("replicas=2", "timeout_s=1.5", "served_model=m"),
    "engine": ("vllm serve org/m --max-num-seqs=64 -tp 2 -O3 --dtype ${DTYPE:-float16}",),
}
"""By option, what is typed."""


def option_readers(scratch: Path) -> Iterator[Reader]:
    """A reader of each option; its texts are files in ``scratch``."""
    for name, texts in _TEXTS.items():
        folder = scratch / f"option-{name}"
        folder.mkdir()
        for number, text in enumerate(texts):
            (folder / f"{number}.txt").write_text(text)
        yield Reader(f"option {name}", sorted(folder.iterdir()), partial(_read, name))


def _read(name: str, path: Path, out: Path) -> None:
    # As a shell gives bytes that are no text to Python; it cannot give NUL.
    _PARSE[name](path.read_bytes().replace(b"\0", b"").decode("utf-8", "surrogateescape"))


def _state(text: str) -> None:
    from pytest_gpusim.compare.stating import parse_statements, require_statable

    require_statable(parse_statements([text]))


def _check(text: str) -> None:
    from pytest_gpusim.compare.judging.tolerances import parse_tolerances

    parse_tolerances(text)


def _slo(text: str) -> None:
    from pytest_gpusim.planning.slo import parse_limits

    for limit in parse_limits(text).limits:
        json.dumps(limit.most_ns, allow_nan=False)


def _columns(text: str) -> None:
    from pytest_gpusim.columns import Columns

    Columns.parse(text).notes()


def _lengths(text: str) -> None:
    from pytest_gpusim.workload.generate import Lengths, WorkloadSpec

    WorkloadSpec("burst", 1, 1.0, 0, prefill=Lengths.parse(text, "--prefill")).check()


def _seconds(text: str) -> None:
    from pytest_gpusim.workload.generate import Seconds

    round(Seconds.parse(text, "--think-time").high * 1e9)


def _time(text: str) -> None:
    from pytest_gpusim.cli.simulations import nanoseconds

    assert 0 <= nanoseconds(text, "--engine-time") < 2**63


def _param(text: str) -> None:
    from pytest_gpusim.parameters import Parameter, read_parameters

    known = (
        Parameter("replicas", "integer", "how many"),
        Parameter("timeout_s", "number", "how long"),
        Parameter("served_model", "text", "which"),
    )
    given: dict[str, Any] = dict([text.partition("=")[::2]])
    read_parameters(known, given, "it")


def _engine(text: str) -> None:
    from pytest_gpusim.deployment import EngineSettings

    json.dumps(EngineSettings.load(text).to_json(), allow_nan=False)


_PARSE = {
    "state": _state,
    "check": _check,
    "slo": _slo,
    "columns": _columns,
    "lengths": _lengths,
    "seconds": _seconds,
    "time": _time,
    "param": _param,
    "engine": _engine,
}
