"""A recording as one archive: replayed like its folder, and refused when it is broken."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import pytest

from pytest_gpusim.backends.archive import find_recording, pack_recording
from pytest_gpusim.backends.recorded import open_recording
from pytest_gpusim.errors import InputError, UsageError
from tests.case.recording import make_recording


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("recordings") / "case"
    make_recording(place, tmp_path_factory.mktemp("scratch"))
    return place


@pytest.fixture
def elsewhere(recorded: Path, tmp_path: Path) -> Path:
    """Another machine's recordings: the archive alone."""
    shutil.copytree(recorded, tmp_path / "here" / "case")
    (tmp_path / "there").mkdir()
    pack_recording(tmp_path / "here" / "case").rename(tmp_path / "there" / "case.tar.xz")
    return tmp_path / "there"


def test_an_archive_replays_like_its_folder(recorded, elsewhere, tmp_path):
    place = find_recording(elsewhere, "case", tmp_path / "unpacked")
    assert place is not None
    ours, theirs = open_recording(recorded), open_recording(place)
    assert ours.meta == theirs.meta
    assert ours.bundle.digest == theirs.bundle.digest
    for run, other in zip(ours.runs, theirs.runs, strict=True):
        assert run.requests.equals(other.requests)
    assert find_recording(elsewhere, "case", tmp_path / "unpacked") == place


def test_a_recording_of_packed_runs_replays_from_folder_and_archive(
    recorded, tmp_path, monkeypatch
):
    monkeypatch.setattr("pytest_gpusim.backends.recorded._COMPRESS_FROM_BYTES", 1)
    make_recording(tmp_path / "case", tmp_path / "scratch")
    run = tmp_path / "case" / "real" / "1"
    assert (run / "token_metrics.csv.xz").exists()
    archive = pack_recording(tmp_path / "case")
    (tmp_path / "there").mkdir()
    archive.rename(tmp_path / "there" / archive.name)
    place = find_recording(tmp_path / "there", "case", tmp_path / "unpacked")
    plain, folder, unpacked = map(open_recording, (recorded, tmp_path / "case", place))
    assert (unpacked.runs[0].path / "token_metrics.csv").exists()
    for other in (folder, unpacked):
        assert other.runs[0].tokens.equals(plain.runs[0].tokens)


def test_a_folder_goes_before_an_archive(recorded, tmp_path):
    assert find_recording(recorded.parent, "case", tmp_path) == recorded
    assert find_recording(recorded.parent, "other", tmp_path) is None


def test_the_same_folder_gives_the_same_bytes(recorded, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(recorded, tmp_path / name / "case")
        for number, path in enumerate(sorted((tmp_path / name).rglob("*"))):
            path.touch()
            path.chmod(0o700 if path.is_dir() or number % 2 else 0o600)
    first, second = (pack_recording(tmp_path / name / "case") for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_an_archive_is_never_overwritten(recorded, tmp_path):
    shutil.copytree(recorded, tmp_path / "case")
    pack_recording(tmp_path / "case")
    with pytest.raises(UsageError, match=r"case\.tar\.xz: exists"):
        pack_recording(tmp_path / "case")


def test_a_truncated_archive_is_refused_and_leaves_nothing(elsewhere, tmp_path):
    archive = elsewhere / "case.tar.xz"
    archive.write_bytes(archive.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"case\.tar\.xz: cannot be read: .*; pack it with"):
        find_recording(elsewhere, "case", tmp_path / "unpacked")
    assert not (tmp_path / "unpacked").exists()


def test_an_archive_of_another_case_is_refused(elsewhere, tmp_path):
    (elsewhere / "case.tar.xz").rename(elsewhere / "other.tar.xz")
    with pytest.raises(InputError, match="holds no folder other"):
        find_recording(elsewhere, "other", tmp_path / "unpacked")


def test_an_archive_cannot_write_outside_its_place(tmp_path):
    with tarfile.open(tmp_path / "case.tar.xz", "w:xz") as tar:
        entry = tarfile.TarInfo("../escaped")
        entry.size = 1
        tar.addfile(entry, io.BytesIO(b"x"))
    with pytest.raises(InputError, match="cannot be unpacked"):
        find_recording(tmp_path, "case", tmp_path / "unpacked")
    assert not (tmp_path / "escaped").exists()
