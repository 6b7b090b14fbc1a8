"""``gpusim check`` and where ``gpusim profile`` leaves a bundle: exit codes and what is printed."""

from __future__ import annotations

import json
import sys
import textwrap
from dataclasses import replace

import pytest

from pytest_gpusim.checks import Check
from pytest_gpusim.cli import main
from pytest_gpusim.cli.profiles import check_lines
from tests.bundle_checks.planting import scale_cell
from tests.case.recording import make_recording
from tests.factories import TINY, make_bundle, make_workload

UP = "time_stats.mlp_up_proj.median"


def gpusim(capsys, *arguments):
    code = main(["-p", "tests.toyplugin", *map(str, arguments)])
    return code, *capsys.readouterr()


@pytest.fixture
def bundle(tmp_path):
    make_bundle(tmp_path / "bundle", meta={"source": "vllm"})
    return tmp_path / "bundle"


def test_a_check_that_fails_exits_1_and_names_the_command(capsys, bundle):
    scale_cell("mlp.csv", 3, UP, 1.5)(bundle)
    code, out, err = gpusim(capsys, "check", bundle)
    assert (code, err) == (1, "")
    (line,) = [line for line in out.splitlines() if line.startswith("fail")]
    assert line.split()[1] == "digest"
    assert line.endswith(
        "make it again with 'gpusim profile vllm --model tiny/model --hardware cpu --engine FILE'"
    )


def test_the_json_document_of_a_check_that_fails(capsys, bundle, tmp_path):
    (tmp_path / "engine.json").write_text(json.dumps({"dtype": "bfloat16"}))
    code, out, err = gpusim(capsys, "check", bundle, "--engine", tmp_path / "engine.json", "--json")
    document = json.loads(out)
    assert (code, err, document["ok"]) == (1, "", False)
    assert set(document) == {"ok", "checks"}
    assert all(set(check) == {"name", "status", "detail"} for check in document["checks"])
    (failed,) = [check for check in document["checks"] if check["status"] == "fail"]
    assert failed["name"] == "match"
    assert failed["detail"].endswith(f"--hardware cpu --engine {tmp_path / 'engine.json'}'")


def test_a_root_of_several_bundles_is_held_against_the_model(capsys, tmp_path):
    root = tmp_path / "root"
    make_bundle(root / "cpu" / "tiny" / "model")
    make_bundle(root / "cpu" / "other" / "model", model=replace(TINY, name="other/model"))
    code, _, err = gpusim(capsys, "check", root, "--model", "Qwen/Qwen3-0.6B")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "no bundle of Qwen/Qwen3-0.6B; bundles found: cpu/other/model, cpu/tiny/model" in err
    assert "gpusim profile vllm --model Qwen/Qwen3-0.6B --hardware HARDWARE" in err
    workload = make_workload(tmp_path / "workload", [(20_000, 4, 0)])
    code, out, _ = gpusim(
        capsys, "check", root, "--model", TINY.name, "--workload", workload.path, "--json"
    )
    failed = [c["name"] for c in json.loads(out)["checks"] if c["status"] == "fail"]
    assert code == 1
    assert "cpu/tiny/model: workload_fits" not in failed  # one bundle of the model: no prefix
    assert "workload_fits" in failed


def test_the_run_of_another_processor_is_told_apart(capsys, tmp_path):
    make_recording(tmp_path / "case", tmp_path / "scratch")
    run = tmp_path / "case" / "real" / "1"
    assert gpusim(capsys, "check", tmp_path / "case" / "profile", "--engine", run)[0] == 0
    meta = json.loads((run / "run_meta.json").read_text())
    meta["device_name"] = "Another processor, 4 cores"
    (run / "run_meta.json").write_text(json.dumps(meta))
    code, out, _ = gpusim(capsys, "check", tmp_path / "case" / "profile", "--engine", run)
    assert code == 1
    assert "'Synthetic processor, 2 cores', asked for is 'Another processor, 4 cores'" in out


@pytest.mark.parametrize(
    ("make", "arguments", "says"),
    [
        (None, [], ["no such profiling root", "--model MODEL --hardware HARDWARE"]),
        ("", [], ["has no bundle", "gpusim profile vllm", "gpusim profile --help"]),
        (
            "compute/a100/org/name",
            ["--model", TINY.name],
            ["Vidur's own profiling tree", "profile vidur", "--model tiny/model --device a100"],
        ),
        ("", ["--model", "no/such"], ["unknown model 'no/such'"]),
        ("", ["--hardware", "abacus"], ["unknown hardware 'abacus'"]),
        ("", ["--workload", "nowhere"], ["nowhere: no such workload directory"]),
        ("", ["--engine", "nowhere.json"], ["nowhere.json: no such file"]),
    ],
)
def test_what_cannot_be_checked_exits_2(capsys, tmp_path, make, arguments, says):
    if make is not None:
        (tmp_path / "root" / make).mkdir(parents=True)
    code, out, err = gpusim(capsys, "check", tmp_path / "root", *arguments)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    for words in says:
        assert words in err


def test_several_variants_are_an_error_until_one_is_asked_for(capsys, tmp_path):
    for name, dtype in (("a", "float32"), ("b", "bfloat16")):
        make_bundle(tmp_path / "cpu" / "tiny" / "model" / name, meta={"dtype": dtype})
    asked = ["check", tmp_path, "--model", TINY.name, "--hardware", "cpu"]
    code, _, err = gpusim(capsys, *asked)
    assert code == 2
    assert "several variants fit: a (float32" in err
    (tmp_path / "engine.json").write_text(json.dumps({"dtype": "bfloat16"}))
    code, out, _ = gpusim(capsys, *asked, "--engine", tmp_path / "engine.json")
    assert code == 0, out


SOURCES = """
from tests.factories import make_bundle

class Source:
    help = "a bundle out of nothing"

    def add_arguments(self, parser):
        parser.add_argument("--fails", action="store_true")

    def produce(self, arguments, registry, out):
        if arguments.fails:
            raise KeyboardInterrupt
        make_bundle(out, meta={"source": "nothing"})

class Broken(Source):
    def add_arguments(self, parser):
        raise RuntimeError("its licence ran out")

def pytest_gpusim_register(registry):
    registry.add_profile_source("nothing", Source())
    registry.add_profile_source("broken", Broken())
    registry.add_profile_source("absent", "no_such_module:SOURCE")
"""


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A plugin with a source that works and two that do not; the working directory is empty."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "odd_sources.py").write_text(textwrap.dedent(SOURCES))
    monkeypatch.syspath_prepend(tmp_path / "plugins")
    monkeypatch.delitem(sys.modules, "odd_sources", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def odd(capsys, *arguments):
    code = main(["-p", "odd_sources", *map(str, arguments)])
    return code, *capsys.readouterr()


def test_a_broken_source_breaks_only_itself(capsys, sources):
    assert odd(capsys, "doctor", "--json")[0] == 0
    code, _, err = odd(capsys, "profile", "broken", "--model", "x")
    assert code == 3
    assert err == "gpusim: gpusim profile broken: the source cannot be used: its licence ran out\n"
    code, _, err = odd(capsys, "profile", "absent")
    assert code == 3
    assert "profile source 'absent' cannot be loaded" in err


def test_a_bundle_goes_where_it_belongs_and_never_twice(capsys, sources):
    for _ in range(2):
        code, out, _ = odd(capsys, "profile", "nothing")
        assert (code, out) == (0, "tmp/vidur_profiling/cpu/tiny/model\n")
    root = sources / "tmp" / "vidur_profiling"
    assert [path.name for path in root.iterdir()] == ["cpu"]
    assert {path.suffix for path in (root / "cpu" / "tiny" / "model").iterdir()} == {
        ".csv",
        ".json",
    }


def test_an_aborted_profile_leaves_nothing(capsys, sources):
    assert odd(capsys, "profile", "nothing", "--fails")[0] == 130
    assert list(sources.iterdir()) == []
    odd(capsys, "profile", "nothing")
    assert odd(capsys, "profile", "nothing", "--fails")[0] == 130
    assert [path.name for path in (sources / "tmp" / "vidur_profiling").iterdir()] == ["cpu"]


@pytest.mark.parametrize("path", ["/home/somebody/models/secret", "../../up", "~/x", "a/../b", ""])
def test_the_path_in_a_saved_config_is_no_name(capsys, tmp_path, path):
    shape = replace(TINY, name="mine")
    (tmp_path / "mine").mkdir()
    config = {**shape.to_hf_config(), "_name_or_path": path}
    (tmp_path / "mine" / "config.json").write_text(json.dumps(config))
    make_bundle(tmp_path / "bundle", model=shape)
    code, out, _ = gpusim(capsys, "check", tmp_path / "bundle", "--model", tmp_path / "mine")
    assert code == 0, out


def test_long_details_go_on_below_themselves_on_a_terminal():
    checks = [Check("files", "pass", "short"), Check("digest", "fail", "word " * 30)]
    lines = check_lines(checks, 80)
    assert max(map(len, lines)) <= 80
    assert {line.index("word") for line in lines[1:]} == {len("fail  digest ")}
    assert len(check_lines(checks, None)) == 2
