"""A user's mistake: exit code 2, one line on standard error, nothing left behind."""

from __future__ import annotations

import json
import shutil

import pytest

from pytest_gpusim.cli import main
from tests.case.recording import make_recording
from tests.factories import TINY, make_bundle, make_workload


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A recording, whose parts the tests break; read-only."""
    root = tmp_path_factory.mktemp("material")
    make_recording(root / "recording", root / "scratch")
    return root


@pytest.fixture
def parts(material, tmp_path):
    """A copy of the parts of a case."""
    shutil.copytree(material / "recording", tmp_path / "case")
    shutil.copytree(material / "scratch" / "simulated", tmp_path / "simulated")
    return tmp_path


def run(capsys, *arguments, plugin=True):
    leading = ["-p", "tests.toyplugin"] if plugin else []
    try:
        code = main([*leading, *map(str, arguments)])
    except SystemExit as exited:
        code = int(exited.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def assert_refused(capsys, *arguments, says):
    code, out, err = run(capsys, *arguments)
    assert code == 2, (code, out, err)
    assert len(err.strip().splitlines()) == 1, err
    for words in says:
        assert words in err
    assert out == ""


def simulate_arguments(parts, **changes):
    options = {
        "model": TINY.name,
        "hardware": "cpu",
        "workload": parts / "case" / "workload",
        "profiling-root": parts / "case" / "profile",
        "simulator": "reference",
        "out": parts / "out",
        **changes,
    }
    return ["simulate", *(part for name, value in options.items() for part in (f"--{name}", value))]


def test_no_command_shows_help(capsys):
    code, out, err = run(capsys)
    assert (code, err) == (0, "")
    assert "COMMAND" in out


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": "no/such"}, ["unknown model 'no/such'", TINY.name]),
        ({"hardware": "abacus"}, ["unknown hardware 'abacus'", "a100"]),
        ({"hardware": "a100"}, ["hardware", "'cpu'", "'a100'"]),
        ({"simulator": "oracle"}, ["unknown simulator 'oracle'", "reference", "vidur"]),
        ({"workload": "nowhere"}, ["nowhere", "no such workload directory", "gpusim workload"]),
        ({"profiling-root": "nowhere"}, ["nowhere", "no such profiling root", "gpusim profile"]),
        ({"engine": "nowhere.json"}, ["nowhere.json", "no such file"]),
        ({"param": "speed"}, ["--param speed", "NAME=VALUE"]),
        ({"simulator": "refernce"}, ["unknown simulator 'refernce' (did you mean reference?)"]),
        ({"workload": __file__}, ["is a file, expected a workload", "gpusim workload import KIND"]),
        ({"engnie": "x"}, ["gpusim simulate: unrecognized", "(did you mean --engine?)"]),
    ],
)
def test_simulate_with_a_wrong_name(capsys, parts, change, says):
    assert_refused(capsys, *simulate_arguments(parts, **change), says=says)
    assert not (parts / "out").exists()


def test_simulate_into_a_directory_that_is_not_empty(capsys, parts):
    (parts / "out").mkdir()
    (parts / "out" / "thesis.txt").write_text("two years of work")
    says = ["--out", "not empty"]
    assert_refused(capsys, *simulate_arguments(parts), says=says)
    assert [path.name for path in (parts / "out").iterdir()] == ["thesis.txt"]


def test_simulate_a_workload_longer_than_the_context(capsys, parts):
    make_workload(parts / "long", [(10, 10, 0), (5000, 10, 1)])
    says = ["request 1 has 5010 tokens", "max_model_len is 4096"]
    assert_refused(capsys, *simulate_arguments(parts, workload=parts / "long"), says=says)


@pytest.mark.parametrize(
    ("engine", "says"),
    [
        ({"max_num_sequences": 8}, ["max_num_sequences", "unknown engine setting"]),
        ({"max_num_seqs": -1}, ["max_num_seqs", "-1"]),
        ({"kv_cache_dtype": "fp8"}, ["kv_cache_dtype", "'float32'", "'fp8'"]),
        ({"quantization": "fp8"}, ["quantization", "None", "'fp8'"]),
        ({"pipeline_parallel_size": 2}, ["pipeline parallelism is not modelled"]),
        ({"speculative_config": {"n": 3}}, ["speculative decoding is not modelled"]),
        ({"enable_lora": True}, ["LoRA is not modelled"]),
        ({"enforce_eager": False}, ["engine_mode", "'eager'", "'compiled'"]),
        ({"dtype": "bfloat16"}, ["dtype", "'float32'", "'bfloat16'"]),
        ({"tensor_parallel_size": 2}, ["tensor_parallel_sizes", "[1]"]),
    ],
)
def test_simulate_under_settings_that_cannot_be(capsys, parts, engine, says):
    (parts / "engine.json").write_text(json.dumps(engine))
    arguments = simulate_arguments(parts, engine=parts / "engine.json")
    assert_refused(capsys, *arguments, says=says)
    assert not (parts / "out").exists()


def test_simulate_with_a_bundle_that_states_no_limits(capsys, parts):
    make_bundle(parts / "silent", meta={"engine_settings": {}})
    arguments = simulate_arguments(parts, **{"profiling-root": parts / "silent"})
    assert_refused(capsys, *arguments, says=["num_gpu_blocks", "--engine"])


def test_simulate_with_a_changed_bundle(capsys, parts):
    table = parts / "case" / "profile" / "mlp.csv"
    table.write_text(table.read_text().replace("1,1,4", "1,1,5", 1))
    says = ["profile_meta.json", "digest", "changed"]
    assert_refused(capsys, *simulate_arguments(parts), says=says)


def compare_arguments(parts):
    return ["compare", parts / "case" / "real" / "1", parts / "simulated", "--out", parts / "out"]


def test_compare_with_a_missing_run(capsys, parts):
    shutil.rmtree(parts / "simulated")
    assert_refused(capsys, *compare_arguments(parts), says=["simulated", "no such"])


def test_compare_with_a_result_that_was_cut_off(capsys, parts):
    whole = (parts / "case" / "workload" / "workload_meta.json").read_text()
    (parts / "cut.json").write_text(whole[: len(whole) // 2])
    (parts / "empty").mkdir()
    # The line depends on how long the versions of this machine's packages are.
    for name, *says in (
        ("cut.json", "cut.json: line ", ": not JSON"),
        ("empty", "empty: is empty"),
    ):
        assert_refused(capsys, "compare", parts / name, parts / "simulated", says=says)


def test_record_of_a_result_file(capsys, parts):
    arguments = ("record", "--workload", parts / "case" / "workload", "--profile")
    arguments = (*arguments, parts / "case" / "profile", __file__, "--out", parts / "out")
    assert_refused(capsys, *arguments, says=["is a file, expected a run", "gpusim import-run KIND"])


def test_compare_with_a_half_written_run(capsys, parts):
    (parts / "case" / "real" / "1" / "run_meta.json").unlink()
    assert_refused(capsys, *compare_arguments(parts), says=["real/1", "incomplete"])


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda text: text.replace("ttft_ns", "ttft_ms", 1), ["column ttft_ns", "missing"]),
        (lambda text: text.replace("\n0,0,", "\n0,-5,", 1), ["line 2", "arrival_time_ns", "-5"]),
        (lambda text: text.replace("\n1,", "\n0,", 1), ["line 3", "request_id"]),
        (lambda text: text.replace(",ok,", ",fine,", 1), ["line 2", "status", "fine"]),
        (lambda text: "", ["empty"]),
    ],
)
def test_compare_with_a_broken_table(capsys, parts, edit, says):
    table = parts / "case" / "real" / "1" / "request_metrics.csv"
    table.write_text(edit(table.read_text()))
    assert_refused(capsys, *compare_arguments(parts), says=["request_metrics.csv", *says])
    assert not (parts / "out").exists()


def test_compare_with_an_unknown_tolerance(capsys, parts):
    arguments = [*compare_arguments(parts), "--check", "ttft_p42=0.1"]
    assert_refused(capsys, *arguments, says=["ttft_p42"])


def test_compare_with_one_run(capsys, parts):
    arguments = ["compare", parts / "simulated"]
    assert_refused(capsys, *arguments, says=["at least one real run"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--rate", "0"], ["--rate 0", "above 0"]),
        (["--requests", "0"], ["--requests 0", "at least 1"]),
        (["--prefill", "9:3"], ["--prefill 9:3", "MIN <= MAX"]),
        (["--arrivals", "weekly"], ["--arrivals", "weekly", "poisson"]),
    ],
)
def test_generate_with_impossible_values(capsys, tmp_path, change, says):
    base = [
        "--arrivals",
        "poisson",
        "--requests",
        "3",
        "--rate",
        "1",
        "--seed",
        "0",
        "--prefill",
        "8",
        "--decode",
        "4",
    ]
    arguments = ["workload", "generate", *base, *change, "--out", tmp_path / "out"]
    assert_refused(capsys, *arguments, says=says)
    assert not (tmp_path / "out").exists()


def test_record_of_runs_that_do_not_belong(capsys, parts, tmp_path):
    other = make_workload(tmp_path / "other", [(10, 10, 0)])
    arguments = ["record", "--workload", other.path, "--profile", parts / "case" / "profile"]
    arguments += [parts / "case" / "real" / "1", "--out", tmp_path / "out"]
    assert_refused(capsys, *arguments, says=["workload_digest"])
    assert not (tmp_path / "out").exists()
