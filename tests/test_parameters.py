"""Simulators and backends declare what they take: one place for help, refusals and documents."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_gpusim.case import Case
from pytest_gpusim.case.live import why_not_live
from pytest_gpusim.cli import main
from pytest_gpusim.deployment import Hardware
from pytest_gpusim.errors import EngineError, UsageError
from pytest_gpusim.parameters import Parameter
from pytest_gpusim.providers import MeasureInputs, Provider
from pytest_gpusim.registry import Registry, builtin_registry
from pytest_gpusim.runs import read_run, write_run
from tests.factories import TINY
from tests.runs.factory import META, REQUESTS, TOKENS

PARAMETERS = (
    Parameter("url", "text", "where it is"),
    Parameter("threads", "integer", "how many", 2),
    Parameter("warmup", "yes or no", "whether", True),
    Parameter("mode", "text", "which", "one", ("one", "two")),
    Parameter("timeout", "number", "seconds"),
)
PROVIDER: Provider[Any] = Provider("toy", "json:dumps", PARAMETERS)


def test_values_come_in_their_kinds_from_a_shell_and_from_a_test() -> None:
    shell = {"url": "u", "threads": "3", "warmup": "no", "mode": "two", "timeout": "1.5"}
    typed = {"url": "u", "threads": 3, "warmup": False, "mode": "two", "timeout": 1.5}
    assert PROVIDER.read(shell) == PROVIDER.read(typed) == typed
    assert PROVIDER.read({"url": None}) == {}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"theads": 1}, "toy provider (did you mean threads?); known are url, threads, warmup"),
        ({"threads": "many"}, "threads=many: expected a positive whole number"),
        ({"threads": 0}, "threads=0: expected a positive whole number"),
        ({"threads": 1.5}, "threads=1.5: expected a positive whole number"),
        ({"threads": True}, "threads=True: expected a positive whole number"),
        ({"timeout": "nan"}, "timeout=nan: expected a positive number"),
        ({"timeout": "inf"}, "timeout=inf: expected a positive number"),
        ({"warmup": "maybe"}, "warmup=maybe: expected yes or no"),
        ({"mode": "three"}, "mode=three: known are one, two"),
        ({"url": {}}, "url={}: expected a text"),
    ],
)
def test_what_is_wrong_is_named(params: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        PROVIDER.read(params)


@pytest.mark.parametrize("command", ["simulate", "measure"])
def test_help_shows_what_each_takes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    registry = builtin_registry()
    providers = registry.simulators if command == "simulate" else registry.backends
    for name in providers.names():
        for parameter in providers.get(name).declared():
            assert f" {parameter} " in f"{shown} "


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["simulate", "--simulator", "reference"],
            "the reference simulator; known are replicas, router",
        ),
        (["simulate"], "the vidur simulator; known are replicas, router, scheduler"),
        (["measure"], "the vllm backend; known are weights, threads, hang_timeout, warmup"),
        (["measure", "--backend", "openai"], "the openai backend; known are url, api_key_env"),
    ],
)
def test_an_unknown_parameter_is_refused_before_anything_is_read(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "w").mkdir()
    where = ["--model", "Qwen/Qwen3-0.6B", "--hardware", "cpu", "--workload", str(tmp_path / "w")]
    assert main([*arguments, *where, "--param", "bogus=1"]) == 2
    assert f"parameter 'bogus' is unknown to {message}" in capsys.readouterr().err


def measure(inputs: MeasureInputs) -> None:
    meta = {**META, "params": dict(inputs.params)}
    write_run(inputs.out_dirs[0], requests=REQUESTS, tokens=TOKENS, meta=meta)


def remote_registry(**declared: Any) -> Registry:
    registry = builtin_registry()
    registry.add_backend("toy", measure, parameters=PARAMETERS, **declared)
    return registry


def test_a_plugins_backend_may_be_on_another_machine() -> None:
    nowhere = Hardware("abacus", "cpu", "no such chip", memory_gb=1, fp16_tflops=1)
    case = Case(model=TINY, hardware=nowhere, workload="spaced", backend="toy")
    assert why_not_live(case, remote_registry()) == "no abacus in this machine"
    registry = remote_registry(remote=True)
    assert why_not_live(case, registry) is None
    backend = registry.backends.get("toy")
    backend.require({}, nowhere)
    with pytest.raises(UsageError, match="the toy backend may be on another machine"):
        backend.require({}, None)


def test_a_backend_says_which_package_it_lacks(tmp_path: Path) -> None:
    registry = remote_registry(remote=True, package=("no_such_module", "'mine[all]'"))
    case = Case(model=TINY, hardware=Hardware("x", "cpu", ".", 1, 1), workload="spaced")
    lacks = "no_such_module is not installed: pip install 'mine[all]'"
    assert why_not_live(replace(case, backend="toy"), registry) == lacks
    inputs: Any = MeasureInputs(TINY, case.hardware, None, None, [tmp_path / "o"])  # type: ignore[arg-type]
    with pytest.raises(EngineError, match=f"the toy backend: {re.escape(lacks)}"):
        registry.backends.get("toy")(inputs)


def test_a_plugins_backend_gets_its_parameters_in_their_kinds(tmp_path: Path) -> None:
    inputs: Any = MeasureInputs(
        TINY,
        Hardware("x", "cpu", ".", 1, 1),
        None,
        None,
        [tmp_path / "o"],
        {"threads": "4"},  # type: ignore[arg-type]
    )
    remote_registry().backends.get("toy")(inputs)
    assert read_run(tmp_path / "o").meta["params"] == {"threads": 4}


@pytest.mark.parametrize(
    ("document", "names"),
    [("servers.md", ["openai", "vllm"]), ("simulators.md", ["vidur"])],
)
def test_the_documents_have_all_parameters(document: str, names: list[str]) -> None:
    text = (Path(__file__).parents[1] / "docs" / document).read_text()
    registry = builtin_registry()
    for name in names:
        tables = registry.simulators if name == "vidur" else registry.backends
        rows = [f"| `{p.name}` | {p.values} | {p.help} |" for p in tables.get(name).declared()]
        assert "\n".join(["| parameter | value | meaning |", "| --- | --- | --- |", *rows]) in text
