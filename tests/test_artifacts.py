"""Directories that appear whole or not at all, digests, provenance."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import pkgutil
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.cases import RECORDINGS
from pytest_gpusim.artifacts import (
    atomic_directory,
    atomic_file,
    digest_files,
    provenance,
    sha256_file,
)
from pytest_gpusim.cli import main
from pytest_gpusim.errors import EngineError, GpusimError, InputError, UsageError, require_package
from pytest_gpusim.json_documents import write_json
from pytest_gpusim.workload.store import store_workload
from tests.factories import make_bundle, make_workload


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_artifact_leaves_nothing(tmp_path: Path, error: type) -> None:
    def write() -> None:
        with atomic_directory(tmp_path / "out") as partial:
            (partial / "half").write_text("written")
            raise error

    with pytest.raises(error):
        write()
    assert list(tmp_path.iterdir()) == []


def test_an_artifact_is_invisible_until_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with atomic_directory(out) as partial:
        (partial / "file").write_text("x")
        assert not out.exists()
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert (out / "file").read_text() == "x"


def test_an_empty_directory_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with atomic_directory(tmp_path / "link") as partial:
        (partial / "file").touch()
    assert (tmp_path / "out" / "file").exists()


def test_what_is_there_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept").touch()
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name, reason in (("full", "not empty"), ("file", "not a directory"), ("dangling", "not a")):
        with pytest.raises(UsageError, match=reason), atomic_directory(tmp_path / name):
            pytest.fail("the block must not run")
    assert (tmp_path / "full" / "kept").exists()


def test_a_directory_below_a_file_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be made"), atomic_directory(tmp_path / "file/out"):
        pytest.fail("the block must not run")


def test_a_directory_filled_meanwhile_is_kept(tmp_path: Path) -> None:
    def write() -> None:
        with atomic_directory(tmp_path / "out"):
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "other").touch()

    with pytest.raises(UsageError, match="meanwhile"):
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_errors_name_the_final_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught, atomic_directory(tmp_path / "out") as partial:
        raise InputError(partial / "file.csv", "line 3", "is wrong")
    assert str(caught.value) == f"{tmp_path / 'out' / 'file.csv'}: line 3: is wrong"


def test_digest_is_over_the_digests(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    hexes = hashlib.sha256(b"a").hexdigest() + hashlib.sha256(b"").hexdigest()
    assert sha256_file(tmp_path / "a") == hashlib.sha256(b"a").hexdigest()
    expected = hashlib.sha256(hexes.encode()).hexdigest()
    assert digest_files([tmp_path / "a", tmp_path / "absent"]) == expected


def test_provenance_is_json() -> None:
    found = json.loads(json.dumps(provenance()))
    assert {"git_commit", "git_dirty", "tool_version", "env"} <= found.keys()
    assert found["env"]["packages"]["pandas"]


@pytest.mark.parametrize(
    "error",
    [InputError("a.csv", "line 2", "bad\nnews", "fix it"), UsageError("no"), EngineError("oh")],
)
def test_errors_are_one_line_and_cross_processes(error: GpusimError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert "\n" not in str(again)
    assert again.__dict__ == error.__dict__


def test_a_missing_package_names_its_extra() -> None:
    with pytest.raises(EngineError, match=r"pip install 'pytest-gpusim\[vidur\]'"):
        require_package("no_such_module", "vidur", "simulating")
    require_package("json", "vidur", "nothing")


def fill_a_directory(place: Path) -> None:
    with atomic_directory(place / "out") as partial:
        (partial / "small.csv").write_text("x")
        (partial / "big.csv").write_text("x" * 5000)


def copy_into_a_directory(place: Path) -> None:
    (place.parent / "source.csv").write_text("x" * 900)
    with atomic_directory(place / "out") as partial:
        error = OSError(errno.ENOSPC, "File too large", str(place.parent / "source.csv"))
        error.filename2 = str(partial / "big.csv")  # as shutil.copyfile names both
        raise error


def fill_a_file(place: Path) -> None:
    with atomic_file(place / "out" / "big.csv") as partial:
        partial.write_text("x" * 5000)


def fill_a_document(place: Path) -> None:
    write_json(place / "out" / "big.csv", "x" * 5000)


@pytest.mark.parametrize(
    "fill", [fill_a_directory, copy_into_a_directory, fill_a_file, fill_a_document]
)
def test_a_disk_that_is_full_names_the_file(tmp_path: Path, fill: Callable[[Path], None]) -> None:
    """A limit on the size of files fails a write as a full disk does, without a name."""
    place = tmp_path / "place"
    place.mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(UsageError, match=r"out.big\.csv: cannot be written: File too large"):
            fill(place)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(place.rglob("*")) == []


def test_a_file_is_invisible_until_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "file"
    with atomic_file(out) as partial:
        partial.write_text("x")
        assert not out.exists()
    assert [path.name for path in out.parent.iterdir()] == ["file"]
    with pytest.raises(OSError, match="elsewhere"), atomic_file(out):
        raise OSError(errno.EIO, "bad", "elsewhere")
    assert out.read_text() == "x"


def killed(place: Path, write: Callable[[Path], None], at: str) -> None:
    """A process that writes is killed at the first call of a function that it comes to."""
    child = os.fork()
    if not child:
        owner, _, name = at.rpartition(".")
        setattr(
            pkgutil.resolve_name(owner), name, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
        )
        try:
            write(place)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


def write_a_bundle(place: Path) -> None:
    make_bundle(place / "out")


def write_a_comparison(place: Path) -> None:
    run = RECORDINGS / "qwen3-0.6b-cpu-burst" / "real" / "1"
    main(["compare", str(run), str(run), "--out", str(place / "out")])


def write_a_document(place: Path) -> None:
    write_json(place / "out", {})


def write_a_workload(place: Path) -> None:
    store_workload(place, lambda out: make_workload(out, [(3, 1, 0)]) and None)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize(
    ("write", "at"),
    [
        (write_a_bundle, "pytest_gpusim.bundle.writer.read_bundle"),
        (write_a_comparison, "pytest_gpusim.report.directory._write_percentiles"),
        (write_a_document, "pathlib.Path.replace"),
        (write_a_workload, "pytest_gpusim.workload.store.read_workload"),
    ],
)
def test_what_a_kill_left_is_no_artifact_and_goes_the_next_time(
    tmp_path: Path, write: Callable[[Path], None], at: str
) -> None:
    killed(tmp_path, write, at)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".")
    write(tmp_path)
    (whole,) = tmp_path.iterdir()
    assert not whole.name.startswith(".")


def test_what_killed_processes_left_is_swept_when_nobody_holds_it(tmp_path: Path) -> None:
    done = subprocess.run(["true"], check=False)
    assert done.returncode == 0
    process = subprocess.Popen(["true"])
    process.wait()
    dead, own = f".a.partial-{process.pid}-abc", f".b.partial-{os.getpid()}-abc"
    fresh, other = f".c.partial-{process.pid}-abc", ".d.partial-x-abc"
    for name in (dead, own, fresh, other):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
        if name != fresh:
            for path in (tmp_path / name / "file", tmp_path / name):
                os.utime(path, (0, 0))
    with atomic_directory(tmp_path / "out"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([own, fresh, other, "out"])


def test_folders_that_were_made_for_an_artifact_go_with_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"), atomic_directory(tmp_path / "a" / "b" / "out"):
        raise ValueError("no")
    assert list(tmp_path.iterdir()) == []
