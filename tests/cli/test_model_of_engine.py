"""``--model`` beside an ``--engine`` that names one, too."""

from __future__ import annotations

from argparse import Namespace

import pytest

from pytest_gpusim.cli.common import model_of
from pytest_gpusim.errors import UsageError
from pytest_gpusim.registry import builtin_registry

NAME = "Qwen/Qwen3-0.6B"


def found(model: str | None, engine: str | None) -> str:
    return model_of(Namespace(model=model, engine=engine), builtin_registry()).name


@pytest.mark.parametrize(
    "served",
    [
        NAME,
        "/models/qwen3-0.6b/",
        f"/models/a --served-model-name b {NAME}",
        f"/c/models--{NAME.replace('/', '--')}/snapshots/0123abc",
    ],
)
def test_one_name_in_several_spellings_is_no_news(
    served: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert found(NAME, f"vllm serve {served} -tp 1") == NAME
    assert capsys.readouterr().err == ""


def test_another_name_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert found(NAME, "vllm serve Qwen/Qwen3-4B -tp 1") == NAME
    told = f"gpusim: --engine is of Qwen/Qwen3-4B, --model is {NAME}: the latter counts\n"
    assert capsys.readouterr().err == told


def test_without_a_model_the_engines_counts() -> None:
    assert found(None, f"vllm serve {NAME} -tp 1") == NAME
    assert found(None, f"vllm serve /no/such --served-model-name {NAME}") == NAME
    with pytest.raises(UsageError, match="unknown model 'other/m'"):
        found(None, "vllm serve other/m")
    with pytest.raises(UsageError, match="give --model"):
        found(None, None)
