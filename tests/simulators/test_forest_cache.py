"""What trained forests predict is kept: whole or rebuilt, shared by processes, never a pickle."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from pytest_gpusim.bundle import Bundle
from pytest_gpusim.errors import GpusimWarning
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.simulators.vidur import forest_cache
from pytest_gpusim.simulators.vidur.forest_cache import PredictionCache, Predictions
from tests.factories import CPU, ENGINE, TINY, make_bundle, make_workload

TABLE: Predictions = {"mlp": {(1,): 0.25, (2,): 0.5}, "attn": {(1, 256): 1 / 3}}


def refuse() -> Predictions:
    raise AssertionError("was built again")


def other() -> Predictions:
    return {"mlp": {(1,): 9.0}}


def test_what_was_built_is_read_back_exactly(tmp_path: Path):
    cache = PredictionCache(tmp_path / "key")
    assert cache.get(lambda: TABLE) == TABLE
    assert PredictionCache(tmp_path / "key").get(refuse) == TABLE
    assert sorted(path.name for path in (tmp_path / "key").iterdir()) == ["lock", "predictions"]


@pytest.mark.parametrize("cut", [0, 1, 40, 90, -1])
def test_a_truncated_entry_is_rebuilt(tmp_path: Path, cut: int):
    cache = PredictionCache(tmp_path)
    cache.get(lambda: TABLE)
    cache.path.write_bytes(cache.path.read_bytes()[:cut])
    assert cache.get(other) == other()
    assert cache.get(refuse) == other()


def test_one_flipped_bit_anywhere_is_rebuilt(tmp_path: Path):
    cache = PredictionCache(tmp_path)
    cache.get(lambda: TABLE)
    whole = cache.path.read_bytes()
    for place in range(0, len(whole), 7):
        cache.path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert cache.get(lambda: TABLE) == TABLE
        assert cache.path.read_bytes() == whole


def test_a_pickle_in_its_place_is_not_executed(tmp_path: Path):
    import hashlib
    import pickle

    class Trap:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "executed"),)

    for payload in (pickle.dumps(Trap()), b"\x80\x04." + pickle.dumps({})):
        fitting = b"gpusim forest 1 " + hashlib.sha256(payload).hexdigest().encode()
        for content in (payload, fitting + b"\n" + payload):
            cache = PredictionCache(tmp_path / "key")
            cache.path.parent.mkdir(exist_ok=True)
            cache.path.write_bytes(content)
            assert cache.get(lambda: TABLE) == TABLE
    assert not (tmp_path / "executed").exists()


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path):
    (tmp_path / "file").write_text("")
    assert PredictionCache(tmp_path / "file" / "key").get(lambda: TABLE) == TABLE


@pytest.mark.parametrize("kind", ["directory", "dangling link", "no rights", "leftovers"])
def test_whatever_is_in_the_place_of_an_entry_it_is_rebuilt_and_kept(tmp_path: Path, kind: str):
    cache = PredictionCache(tmp_path / "key")
    cache.path.parent.mkdir()
    if kind == "directory":
        (cache.path / "deep").mkdir(parents=True)
    elif kind == "dangling link":
        cache.path.symlink_to(tmp_path / "nowhere")
    elif kind == "no rights":
        cache.path.write_text("x")
        cache.path.chmod(0)
    else:
        (cache.path.parent / "tmpdir" / "deep").mkdir(parents=True)
    assert cache.get(lambda: TABLE) == TABLE
    assert PredictionCache(tmp_path / "key").get(refuse) == TABLE
    assert sorted(path.name for path in (tmp_path / "key").iterdir()) == ["lock", "predictions"]


def test_processes_at_once_build_one_entry(tmp_path: Path):
    script = """
import sys, time
from pathlib import Path
from pytest_gpusim.simulators.vidur.forest_cache import PredictionCache
def build():
    time.sleep(0.5)
    return {"mlp": {(1,): float(sys.argv[2])}}
print(PredictionCache(Path(sys.argv[1])).get(build))
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "key"), str(number)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    told = {process.communicate()[0] for process in processes}
    assert len(told) == 1
    assert "{(1,): " in told.pop()


@pytest.fixture
def forest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    pytest.importorskip("vidur", reason="vidur is not installed")
    import platformdirs

    from pytest_gpusim.simulators.vidur import forest

    monkeypatch.setitem(forest._GRIDS["small"], "num_estimators", [5])
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    return forest


def inputs(bundle: Bundle, tmp_path: Path, out: str = "out", **engine: Any) -> SimulationInputs:
    place = tmp_path / "w"
    workload = make_workload(place if not place.exists() else tmp_path / f"w-{out}", [(40, 3, 0)])
    settings = dataclasses.replace(ENGINE, **engine)
    params = {"predictor": "random_forest"}
    return SimulationInputs(TINY, CPU, workload, bundle, settings, tmp_path / out, params)


def test_the_key_covers_what_predictions_depend_on(
    forest: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    given = inputs(make_bundle(tmp_path / "b"), tmp_path)
    seen = {forest.cache_directory(given)}
    assert forest.cache_directory(dataclasses.replace(given)) in seen
    changed = make_bundle(tmp_path / "b2", mixed=True)
    assert changed.digest != given.bundle.digest
    for other_inputs in (
        dataclasses.replace(given, bundle=changed),
        dataclasses.replace(given, model=dataclasses.replace(TINY, vocab_size=1001)),
        dataclasses.replace(given, engine=dataclasses.replace(ENGINE, max_num_seqs=7)),
        dataclasses.replace(given, params={"forest": "vidur"}),
    ):
        seen.add(forest.cache_directory(other_inputs))
    assert len(seen) == 5
    for package in ("pytest-gpusim", "vidur", "scikit-learn", "numpy"):
        monkeypatch.setattr(
            forest, "package_version", lambda name, package=package: f"{name == package}"
        )
        seen.add(forest.cache_directory(given))
    assert len(seen) == 9


def test_a_damaged_entry_gives_the_same_simulation(forest: Any, tmp_path: Path):
    from pytest_gpusim.simulators.vidur import runner

    bundle = make_bundle(tmp_path / "b")
    given = inputs(bundle, tmp_path, "one")
    runner.simulate(given)
    (entry,) = (tmp_path / "cache" / "pytest-gpusim" / "vidur-forest").glob("*/predictions")
    whole = entry.read_bytes()
    entry.write_bytes(whole[: len(whole) // 2])
    runner.simulate(dataclasses.replace(given, out_dir=tmp_path / "two"))
    one, two = ((tmp_path / name / "request_metrics.csv").read_bytes() for name in ("one", "two"))
    assert one == two
    assert entry.read_bytes()[:80] == whole[:80]
    assert not list((tmp_path / "cache").rglob("*.pkl"))


def test_all_reduces_are_looked_up_at_their_size_in_bytes(forest: Any, tmp_path: Path):
    import pandas as pd

    table = make_bundle(tmp_path / "b", tensor_parallel_sizes=(1, 2)).all_reduce
    assert table is not None
    for dtype, width in (("float32", 4), ("bfloat16", 2)):
        path = tmp_path / f"{dtype}.csv"
        forest._write_all_reduce(table, dtype, path)
        written = pd.read_csv(path)
        # Vidur: tokens = size / hidden size / 2.
        tokens = written["size"] / TINY.hidden_size / 2
        assert (tokens * TINY.hidden_size * width).tolist() == table["size_bytes"].tolist()


def test_a_lock_that_is_held_is_waited_for_with_a_word_and_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(forest_cache, "LOCK_SECONDS", 0.2)
    with FileLock(tmp_path / "lock"), pytest.warns(GpusimWarning) as said:
        assert PredictionCache(tmp_path).get(other) == other()
    words = [str(each.message) for each in said]
    assert "is held by another process: waiting for it" in words[0]
    assert "is held for 0.2 s: going on without it" in words[1]


def test_what_a_killed_process_left_is_swept(tmp_path: Path):
    (tmp_path / "tmpabc").write_bytes(b"half")
    PredictionCache(tmp_path).get(other)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "predictions"]
