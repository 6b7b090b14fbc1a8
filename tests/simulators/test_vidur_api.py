"""The small API, and the hand-over to Vidur's own main."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_gpusim.cli import main
from pytest_gpusim.deployment.models import QWEN3_0_6B
from pytest_gpusim.errors import EngineError, InputError
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.runs import read_run
from pytest_gpusim.runs.importers import load_simulated_run
from pytest_gpusim.simulators.vidur.api import (
    ProfilingRootLayout,
    Qwen3ModelRef,
    VidurSimInputs,
    register_qwen3_0_6b,
    run_vidur_main,
    run_vidur_sim,
    validate_profiling_root,
)
from pytest_gpusim.simulators.vidur.main import run_main
from tests.factories import ENGINE, TINY, make_bundle, make_workload

pytest.importorskip("vidur", reason="vidur is not installed")


def test_importing_the_api_imports_nothing_heavy():
    code = (
        "import sys, pytest_gpusim.simulators.vidur.api\n"
        "print([m for m in ('vidur', 'vllm', 'torch', 'pandas', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_register_qwen3(tmp_path: Path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(QWEN3_0_6B.to_hf_config()))
    register_qwen3_0_6b(model_ref=Qwen3ModelRef(path))
    register_qwen3_0_6b(model_ref=Qwen3ModelRef(config_json=path))
    from vidur.config import BaseModelConfig

    config = BaseModelConfig.create_from_name("Qwen/Qwen3-0.6B")
    assert (config.num_layers, config.num_q_heads, config.num_kv_heads) == (28, 16, 8)
    assert (config.embedding_dim, config.vocab_size) == (1024, 151936)
    path.write_text(json.dumps({**QWEN3_0_6B.to_hf_config(), "num_hidden_layers": 30}))
    with pytest.raises(EngineError, match="num_layers 28, and cannot get 30"):
        register_qwen3_0_6b(model_ref=Qwen3ModelRef(path))


def test_register_qwen3_refuses_another_architecture(tmp_path: Path):
    path = tmp_path / "config.json"
    other = dataclasses.replace(QWEN3_0_6B, architecture="LlamaForCausalLM")
    path.write_text(json.dumps(other.to_hf_config()))
    with pytest.raises(InputError, match="expected Qwen3ForCausalLM, found LlamaForCausalLM"):
        register_qwen3_0_6b(model_ref=Qwen3ModelRef(path))


@pytest.mark.parametrize("as_root", [True, False], ids=["root", "bundle"])
def test_run_vidur_sim_writes_a_run(tmp_path: Path, as_root: bool):
    root = tmp_path / "root"
    bundle = root / "cpu" / "tiny" / "model"
    make_bundle(bundle)
    make_workload(tmp_path / "w", [(20, 3, 0)])
    validate_profiling_root(ProfilingRootLayout(root if as_root else bundle))
    run_vidur_sim(
        VidurSimInputs(
            workload_dir=tmp_path / "w",
            profiling_root=root if as_root else bundle,
            model_id="tiny/model",
        ),
        out_dir=tmp_path / "out",
    )
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"request_metrics.csv", "token_metrics.csv", "run_meta.json"} <= names
    run = read_run(tmp_path / "out")
    assert (run.meta["run_type"], run.meta["hardware"]) == ("vidur", "cpu")


def test_run_vidur_sim_takes_the_path_of_a_config(tmp_path: Path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**TINY.to_hf_config(), "_name_or_path": TINY.name}))
    make_bundle(tmp_path / "b")
    make_workload(tmp_path / "w", [(20, 3, 0)])
    run_vidur_sim(
        VidurSimInputs(tmp_path / "w", tmp_path / "b", str(config)), out_dir=tmp_path / "o"
    )
    assert read_run(tmp_path / "o").meta["model"] == TINY.name


def test_the_names_are_those_of_the_package():
    import pytest_gpusim.simulators.vidur as package

    assert package.run_vidur_sim is run_vidur_sim
    assert package.ProfilingRootLayout is ProfilingRootLayout


def test_run_vidur_sim_refuses_a_profile_of_something_else(tmp_path: Path):
    make_bundle(tmp_path / "b")
    make_workload(tmp_path / "w", [(20, 3, 0)])
    settings = dataclasses.replace(ENGINE, enforce_eager=False)
    given = VidurSimInputs(tmp_path / "w", tmp_path / "b", "tiny/model", engine=settings)
    with pytest.raises(InputError, match=r"engine_mode.*'eager'.*'compiled'"):
        run_vidur_sim(given, out_dir=tmp_path / "out")
    with pytest.raises(InputError, match=r"no single device.*tiny/model on cpu"):
        run_vidur_sim(
            dataclasses.replace(given, model_id="Qwen/Qwen3-0.6B"), out_dir=tmp_path / "out"
        )


def test_validate_profiling_root_names_file_and_fix(tmp_path: Path):
    with pytest.raises(InputError, match=r"nowhere: no such profiling root; make one with"):
        validate_profiling_root(ProfilingRootLayout(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"bundles found: none; make one with 'gpusim profile"):
        validate_profiling_root(ProfilingRootLayout(tmp_path / "empty"))
    bundle = tmp_path / "root" / "cpu" / "tiny" / "model"
    make_bundle(bundle)
    with (bundle / "mlp.csv").open("a") as stream:
        stream.write("\n")
    with pytest.raises(InputError, match=r"digest.*changed after"):
        validate_profiling_root(ProfilingRootLayout(tmp_path / "root"))


def test_main_knows_the_registrys_models_and_devices(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        run_main(["--help"], builtin_registry())
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "--replica_config_model_name" in text
    assert "--gpusim_profile_predictor_config_bundle" in text
    from vidur.config import BaseDeviceSKUConfig, BaseModelConfig

    for name in builtin_registry().models.names():
        assert BaseModelConfig.create_from_name(name).num_layers > 0
    assert BaseDeviceSKUConfig.create_from_type_string("rtx4090").total_memory_gb == 24


def test_a_tiny_run_of_vidurs_own_main(tmp_path: Path):
    make_bundle(tmp_path / "bundle")
    make_workload(tmp_path / "w", [(20, 3, 0), (30, 5, 1000)])
    configs = tmp_path / "configs" / "tiny" / "model"
    configs.mkdir(parents=True)
    (configs / "config.json").write_text(json.dumps(TINY.to_hf_config()))
    arguments = {
        "replica_config_model_name": "tiny/model",
        "replica_config_device": "a100",
        "replica_config_network_device": "a100_dgx",
        "replica_config_num_pipeline_stages": "1",
        "replica_config_tensor_parallel_size": "1",
        "replica_scheduler_config_type": "sarathi",
        "global_scheduler_config_type": "gpusim_single",
        "request_generator_config_type": "gpusim_workload",
        "gpusim_workload_config_directory": str(tmp_path / "w"),
        "execution_time_predictor_config_type": "gpusim_profile",
        "gpusim_profile_predictor_config_bundle": str(tmp_path / "bundle"),
        "metrics_config_output_dir": str(tmp_path / "out"),
    }
    argv = [part for name, value in arguments.items() for part in (f"--{name}", value)]
    argv += ["--no-metrics_config_store_plots"]
    code = (
        "import sys; from pathlib import Path\n"
        "from pytest_gpusim.simulators.vidur.api import run_vidur_main\n"
        "run_vidur_main(model_config_root=Path(sys.argv.pop(1)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "configs"), *argv],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Simulation ended at" in done.stdout
    assert list((tmp_path / "out").glob("*/config.json"))
    (metrics,) = (tmp_path / "out").glob("**/request_metrics.csv")
    assert_compares_as_a_simulation(metrics.parent, tmp_path)


def assert_compares_as_a_simulation(folder: Path, tmp_path: Path):
    """Vidur's own output is a simulated side as it lies: what it says agrees with itself."""
    run = load_simulated_run(folder, builtin_registry(), store=tmp_path / "runs")
    rows = run.requests
    assert run.meta["run_type"] == "vidur"
    assert rows["arrival_time_ns"].tolist() == [0, 1000]
    assert rows["num_prefill_tokens"].tolist() == [20, 30]
    assert rows["num_decode_tokens_actual"].tolist() == [3, 5]
    e2e = rows["completion_time_ns"] - rows["arrival_time_ns"]
    assert (rows["ttft_ns"] > 0).all()
    assert (e2e > rows["ttft_ns"]).all()
    table = "arrival_ns,ttft_ns,e2e_ns,input_tokens,output_tokens\n" + "".join(
        f"{row.arrival_time_ns},{row.ttft_ns},{row.completion_time_ns - row.arrival_time_ns},"
        f"{row.num_prefill_tokens},{row.num_decode_tokens_actual}\n"
        for row in rows.itertuples()
    )
    (tmp_path / "measured.csv").write_text(table)
    code = main(
        ["compare", str(tmp_path / "measured.csv"), str(folder), "--out", str(tmp_path / "c")]
    )
    document = json.loads((tmp_path / "c" / "comparison.json").read_text())
    assert code in (0, 1)
    for metric in ("ttft", "tpot", "e2e"):
        assert document["metrics"][metric]["p50"]["error"] == pytest.approx(0, abs=1e-9)


def test_run_vidur_main_needs_a_config(tmp_path: Path):
    with pytest.raises(InputError, match=r"no config\.json below it"):
        run_vidur_main(model_config_root=tmp_path)
