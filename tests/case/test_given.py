"""A result that exists as the real side: found, read, completed by what is stated, compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_gpusim.case import Settings, compare, failing_prerequisites, real_side, resolve_case
from pytest_gpusim.case import simulate as simulate_case
from pytest_gpusim.case.arguments import _stem_of
from pytest_gpusim.case.given import find_real, read_given
from pytest_gpusim.errors import GpusimError, GpusimWarning, InputError, UsageError
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.runs import read_run
from pytest_gpusim.runs.importers.stated import Stated
from pytest_gpusim.simulators.reference import simulate
from tests.case.bench import write_bench
from tests.case.recording import REQUESTS
from tests.factories import CPU, ENGINE, TINY, make_bundle, make_workload

# What a benchmark client's file never says.
UNSAID = ("prefix_cache_cold", "clock_counted", "warmed_up")


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A profile, two repeats as result files of a benchmark client, and engine settings."""
    root = tmp_path_factory.mktemp("given")
    bundle = make_bundle(root / "profile")
    workload = make_workload(root / "workload", REQUESTS)
    simulate(SimulationInputs(TINY, CPU, workload, bundle, ENGINE, root / "simulated", {}))
    run = read_run(root / "simulated")
    for number in (2, 10):
        write_bench(run, root / f"bench-{number}.json", TINY.name)
    (root / "engine.yaml").write_text("max_num_seqs: 16\n")
    return root


def resolve(material, tmp_path, **arguments):
    given = {"simulator": "reference", "profile": "profile", **arguments}
    return resolve_case(
        given,
        builtin_registry(),
        marked=None,
        artifacts=tmp_path / "out",
        places=[material],
        asker="test_mine",
    )


def test_a_result_file_is_a_whole_comparison(material, tmp_path):
    case = resolve(material, tmp_path, real="bench-*.json", engine=ENGINE.to_json())
    settings = Settings(builtin_registry(), tmp_path / "out", tmp_path / "none")
    stated = {"device_name": make_bundle(tmp_path / "same").meta["device_name"]}
    missing = failing_prerequisites(case, settings, True, UNSAID, stated)
    assert [check.name for check in missing] == ["roles"]  # the results are a simulation's
    side = real_side(case, settings)
    assert (case.model.name, case.hardware.name) == (TINY.name, "cpu")
    assert case.case_name == "model-cpu-bench-2"
    assert len(side.runs) == 2
    assert side.runs[0].meta["engine"]["max_num_seqs"] == 16
    found, _ = compare(case, settings, side, simulate_case(case, settings, side))
    checks = {check.name: check.status for check in found.checks}
    assert checks["same_workload"] in ("pass", "warn")
    assert checks["settings_mirrored"] == "pass"
    # The client sent every other request 20 us late: some of them miss a step.
    assert found.flat_figures()["e2e_p50_error"] == pytest.approx(0, abs=0.01)


def test_an_engine_of_another_model_is_told(material, tmp_path):
    command = f"vllm serve {TINY.name} --max-num-seqs 16"
    assert resolve(material, tmp_path, real="bench-2.json", engine=command).engine.max_num_seqs
    with pytest.warns(GpusimWarning, match="engine= is of other/one, the model is tiny/"):
        resolve(material, tmp_path, real="bench-2.json", engine="vllm serve other/one")


def test_a_pattern_is_in_natural_order(material):
    found = find_real(["bench-*.json"], [material])
    assert [path.name for path in found] == ["bench-2.json", "bench-10.json"]


def test_a_folder_of_repeats_is_its_runs(tmp_path):
    for name in ("1", "2", "10"):
        (tmp_path / "measured" / name).mkdir(parents=True)
        (tmp_path / "measured" / name / "run_meta.json").touch()
    found = find_real("measured", [tmp_path])
    assert [path.name for path in found] == ["1", "2", "10"]
    assert find_real(tmp_path / "measured" / "2", [tmp_path]) == [tmp_path / "measured" / "2"]


@pytest.mark.parametrize(
    ("real", "error", "message"),
    [
        ("absent.json", InputError, "absent.json: no such file or run directory; looked for in "),
        ("absent-*.json", InputError, "absent-*.json: no such file or run directory"),
        ([], UsageError, "real: no file is named"),
        (["bench-2.json", "bench-*.json"], UsageError, "bench-2.json is named twice"),
    ],
)
def test_what_is_not_there_is_said(material, real, error, message):
    with pytest.raises(error) as caught:
        find_real(real, [material])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (
            {"real": "bench-2.json", "profile": None},
            [
                "model= (the real run says 'tiny/model', which is not known here: one of ",
                "; a hardware marker or hardware= (one of a100, ",
            ],
        ),
        ({"profile": None}, ["model= (one of ", "workload= (a preset ", "real= (a result file"]),
        ({"real": "bench-2.json", "model": "Qwen/Qwen3-0.6B"}, ["says 'Qwen/Qwen3-0.6B'"]),
    ],
)
def test_what_is_missing_is_asked_for_by_name(material, tmp_path, arguments, asked):
    with pytest.raises(GpusimError) as caught:
        resolve(material, tmp_path, **arguments)
    for words in asked:
        assert words in str(caught.value)


def test_missing_engine_settings_are_asked_for(material, tmp_path):
    bare = make_bundle(tmp_path / "bare", meta={"engine_settings": {}}).path
    case = resolve(material, tmp_path, real="bench-2.json", engine="engine.yaml", profile=bare)
    settings = Settings(builtin_registry(), tmp_path / "out", tmp_path / "none")
    side = real_side(case, settings)
    assert side.runs[0].meta["engine"]["max_num_seqs"] == 16
    with pytest.raises(GpusimError) as caught:
        simulate_case(case, settings, side)
    assert "num_gpu_blocks" in str(caught.value)


def test_a_run_directory_that_says_all_is_compared_as_it_lies(material, tmp_path):
    case = resolve(material, tmp_path, real="simulated", hardware=None)
    assert case.given.runs[0].path == material / "simulated"


def test_all_results_of_a_file_are_repeats(tmp_path: Path) -> None:
    folder = Path(__file__).parents[1] / "data" / "cases" / "02-append-result"
    found = find_real("result.json#all", [folder])
    given = read_given(found, builtin_registry(), tmp_path, Stated())
    assert [run.requests["ttft_ns"].tolist() for run in given.runs] == [[50_000_000], [80_000_000]]


@pytest.mark.parametrize(
    ("accept", "device", "engine", "expected"),
    [
        ((), "the profile's", {}, ["overhead_counted"]),
        (("overhead_counted",), "the profile's", {}, []),
        # A processor is only itself: where nobody names it, the comparison cannot pass.
        (("overhead_counted",), None, {}, ["profile_matches"]),
        (("overhead_counted", "profile_matches"), None, {}, []),
        (("overhead_counted",), "another", {}, ["profile_matches"]),
        (("overhead_counted",), "the profile's", {"num_gpu_blocks": None}, ["kv_blocks_mirrored"]),
    ],
)
def test_prerequisites_judge_the_checks_of_the_comparison(
    material, tmp_path, accept, device, engine, expected
):
    bare = make_bundle(tmp_path / "bare", overhead=False)
    settings = {
        key: value for key, value in {**ENGINE.to_json(), **engine}.items() if value is not None
    }
    case = resolve(material, tmp_path, real="bench-2.json", engine=settings, profile=bare.path)
    settings = Settings(builtin_registry(), tmp_path / "out", tmp_path / "none")
    name = bare.meta["device_name"] if device == "the profile's" else device
    stated = {"real.device_name": name} if device else None
    found = failing_prerequisites(case, settings, True, (*UNSAID, *accept), stated)
    assert [check.name for check in found] == expected
    if expected and device is None:
        assert found[0].detail.endswith("; state device_name, or accept profile_matches")


def test_prerequisites_name_all_that_a_pass_needs_of_runs_at_hand(material, tmp_path):
    case = resolve(material, tmp_path, real="bench-2.json", engine=ENGINE.to_json())
    settings = Settings(builtin_registry(), tmp_path / "out", tmp_path / "none")
    stated = {"real.device_name": make_bundle(tmp_path / "same").meta["device_name"]}
    missing = failing_prerequisites(case, settings, asked_for=True, stated=stated)
    assert [check.name for check in missing] == ["roles", *UNSAID]
    assert missing[-1].detail.endswith("; state warmup, or accept warmed_up")
    side = real_side(case, settings)
    found, _ = compare(case, settings, side, simulate_case(case, settings, side), stated)
    kept = [c.name for c in found.checks if c.needed and c.status in ("unknown", "fail")]
    assert kept == [check.name for check in missing]


@pytest.mark.parametrize(
    ("path", "stem"),
    [("chat/real/1", "chat"), ("bench-1.json", "bench-1"), ("runs/burst", "burst"), ("/1", "")],
)
def test_what_is_given_has_a_name_that_tells_something(path, stem):
    assert _stem_of(Path(path)) == stem
