"""Input that means harm, or nothing: one line, exit code 2 (a plugin's fault 3), nothing left."""

from __future__ import annotations

import gzip
import io
import json
import locale
import lzma
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpusim.artifacts import atomic_directory, new_id, safe_name
from pytest_gpusim.backends.archive import find_recording
from pytest_gpusim.bundle.layout import place_of
from pytest_gpusim.cli import main
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.errors import InputError, printable
from pytest_gpusim.faults import plugin_call, time_limit
from pytest_gpusim.json_documents import read_json
from pytest_gpusim.limits import LIMITS
from pytest_gpusim.tables import read_table
from pytest_gpusim.texts import open_text
from pytest_gpusim.workload.prompts import Prompt
from pytest_gpusim.workload.store import store_workload
from pytest_gpusim.workload.trace import WorkloadRequest, read_workload
from pytest_gpusim.workload.writer import write_workload

HOSTILE = Path(__file__).parent / "data" / "cases" / "hostile"
RECORDING = Path(__file__).parents[1] / "benchmarks" / "recordings" / "qwen3-0.6b-cpu-poisson"
PLUGIN = "plugin_that_writes_nothing"


def gpusim(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = main([str(argument) for argument in arguments])
    err = capsys.readouterr().err
    return code, err


def files_below(path: Path) -> list[Path]:
    return sorted(path.rglob("*"))


def simulate(*more: object, model: object = "Qwen/Qwen3-0.6B") -> list[object]:
    return [
        "simulate", "--model", model, "--hardware", "cpu", "--profiling-root",
        RECORDING / "profile", "--workload", RECORDING / "workload", *more,
    ]  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, from which plugins may be loaded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(HOSTILE)])
    yield tmp_path
    sys.modules.pop(PLUGIN, None)


@pytest.mark.parametrize("file", sorted(path.name for path in HOSTILE.iterdir()))
def test_as_an_engine_file_and_as_a_model(
    here: Path, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    for arguments in (simulate("--engine", HOSTILE / file), simulate(model=HOSTILE / file)):
        code, err = gpusim(capsys, *arguments)
        assert code == 2, err
        assert err.startswith("gpusim: ")
        assert err.count("\n") == 1
        assert file in err
        assert files_below(here) == []


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("alias_bomb.yaml", "line 6: holds more than 100,000 values"),
        (
            "scalar_deep.yaml",
            "is nested deeper than 64; the limit is 64; raise it with GPUSIM",
        ),
        ("scalar_bin.yaml", "line 1: not usable YAML: '0b_' is no int"),
        ("scalar_date.yaml", "'2001-02-30' is no timestamp"),
        ("scalar_int.yaml", "line 1: not usable YAML: a whole number of 5,000 digits is too large"),
    ],
)
def test_what_is_wrong_is_said(
    here: Path, capsys: pytest.CaptureFixture[str], file: str, says: str
) -> None:
    assert says in gpusim(capsys, *simulate("--engine", HOSTILE / file))[1]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("config_architectures.json", "architectures: expected a list of texts, found [['x']]"),
        ("config_layer_types.json", "layer_types: expected a list of texts, found 2"),
    ],
)
def test_kinds_of_a_config(
    here: Path, capsys: pytest.CaptureFixture[str], config: str, says: str
) -> None:
    assert says in gpusim(capsys, *simulate(model=HOSTILE / config))[1]


@pytest.mark.parametrize("module", ["alias_bomb.yaml", "no_such", "scalar_bin.yaml", ".relative"])
def test_what_is_no_plugin(here: Path, capsys: pytest.CaptureFixture[str], module: str) -> None:
    code, err = gpusim(capsys, "-p", module, "doctor")
    assert (code, err.count("\n")) == (2, 1)
    assert f"-p {module}: cannot be imported" in err


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("raises", "failed: ValueError: boom second line \\x1b[2J"),
        ("nothing", "did not write a run as it must: o: no such run directory"),
        ("half", "did not write a run as it must: o: incomplete: no run_meta.json"),
        ("a_file", "did not write a run as it must: o: is a file, expected a run"),
        ("exits", "ended the process (exit code 0)"),
    ],
)
def test_a_plugins_simulator_is_named(
    here: Path, capsys: pytest.CaptureFixture[str], name: str, says: str
) -> None:
    engine = ("--engine", RECORDING / "real" / "1")
    more = (*engine, "--simulator", f"bad_{name}", "--out", "o")
    code, err = gpusim(capsys, "-p", PLUGIN, *simulate(*more))
    assert code == 3
    assert err.startswith(f"gpusim: the simulator 'bad_{name}' {says}")
    assert err.count("\n") == 1
    assert "\x1b" not in err
    assert files_below(here) == []


HANGS = """
import signal, time
from pytest_gpusim import faults

def hang(*given):
    # The alarm is set; from here on its time passes quickly.
    assert callable(signal.getsignal(signal.SIGALRM))
    faults.monotonic = lambda: time.monotonic() + 100_000
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    while True:
        try:
            time.sleep(60)
        except Exception:
            pass

def recognises(path):
    hang()

def import_run(files, out):
    hang()

def look(files, out):
    pass

def half(inputs):
    inputs.out_dir.mkdir(parents=True)
    hang()

def measure(inputs):
    inputs.out_dirs[0].mkdir(parents=True)
    hang()

def pytest_gpusim_register(registry):
    registry.add_simulator("hangs", half)
    registry.add_importer("hangs", import_run)
    look.recognises = recognises
    registry.add_importer("hangs-at-a-look", look)
    registry.add_importer("hangs", hang, produces="workload")
    registry.add_backend("hangs", measure)
    registry.add_simulator("raises-at-import", "plugin_that_raises:simulate")
"""
MEASURE = ["measure", "--model", "Qwen/Qwen3-0.6B", "--workload", RECORDING / "workload"]


@pytest.mark.parametrize(
    ("arguments", "what", "limit"),
    [
        (simulate("--engine", RECORDING / "real" / "1", "--simulator", "hangs", "--out", "o/o"),
         "the simulator 'hangs'", "PLUGIN"),
        (["import-run", "hangs", HOSTILE / "scalar_bin.yaml", "--out", "o"],
         "the importer 'hangs'", "PLUGIN"),
        (["compare", HOSTILE / "scalar_bin.yaml", RECORDING / "real" / "1"],
         "the importer 'hangs-at-a-look', looking at", "PLUGIN"),
        (["workload", "import", "hangs", HOSTILE / "scalar_bin.yaml"],
         "the importer 'hangs'", "PLUGIN"),
        ([*MEASURE, "--backend", "hangs", "--out", "o"], "the backend 'hangs'", "BACKEND"),
    ],
    ids=["simulator", "run importer", "look", "trace importer", "backend"],
)  # fmt: skip
def test_a_plugin_that_hangs_is_named(
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[object],
    what: str,
    limit: str,
) -> None:
    (here / f"{PLUGIN}.py").write_text(HANGS)
    sys.path.insert(0, str(here))
    before = signal.getsignal(signal.SIGALRM)
    monkeypatch.setattr("pytest_gpusim.faults.monotonic", time.monotonic)  # undone behind it
    code, err = gpusim(capsys, "-p", PLUGIN, *arguments)
    assert (code, err.count("\n")) == (3, 1), err
    assert err.startswith(f"gpusim: {what}")
    seconds = {"PLUGIN": "3,600", "BACKEND": "86,400"}[limit]
    assert err.rstrip().endswith(
        f"has not come back after {seconds} seconds; the limit is {seconds}; "
        f"raise it with GPUSIM_MAX_{limit}_SECONDS=N if this is meant"
    )
    assert [path.name for path in here.iterdir() if path.name != "__pycache__"] == [f"{PLUGIN}.py"]
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is before


def test_a_plugin_whose_import_hangs_is_named(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / f"{PLUGIN}.py").write_text("import time\ntime.sleep(60)\n")
    sys.path.insert(0, str(here))
    monkeypatch.setenv("GPUSIM_MAX_PLUGIN_SECONDS", "1")
    code, err = gpusim(capsys, "-p", PLUGIN, "doctor")
    assert code == 3
    assert f"the import of -p {PLUGIN} has not come back after 1 seconds; the limit is 1" in err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("raise ValueError('boom')", "cannot be loaded: ValueError: boom ("),
        ("raise SystemExit(0)", "cannot be loaded: it ended the process"),
        ("def", "cannot be loaded: SyntaxError: "),
        ("", "cannot be loaded: module 'plugin_that_raises' has no attribute 'simulate'"),
    ],
)
def test_a_plugins_module_that_cannot_be_loaded_is_named(
    here: Path, capsys: pytest.CaptureFixture[str], text: str, says: str
) -> None:
    (here / f"{PLUGIN}.py").write_text(HANGS)
    (here / "plugin_that_raises.py").write_text(text)
    sys.path.insert(0, str(here))
    engine = ("--engine", RECORDING / "real" / "1")
    more = (*engine, "--simulator", "raises-at-import", "--out", "o")
    code, err = gpusim(capsys, "-p", PLUGIN, *simulate(*more))
    sys.modules.pop("plugin_that_raises", None)
    assert (code, err.count("\n")) == (3, 1), err
    assert err.startswith(f"gpusim: simulator 'raises-at-import' {says}")
    assert not (here / "o").exists()


def test_an_alarm_of_another_stands() -> None:
    rung = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: rung.append(number))
    signal.setitimer(signal.ITIMER_REAL, 30)
    try:
        with time_limit("a plugin"):
            signal.raise_signal(signal.SIGALRM)
        assert rung == [signal.SIGALRM]
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


ALARM = """
import os, signal, time

def alarm():
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    time.sleep(9)

"""


@pytest.mark.parametrize(
    ("raised", "says"),
    [
        ("GeneratorExit", "failed: GeneratorExit ("),
        ("type('Mute', (Exception,), {'__str__': lambda self: 1 / 0})()", "failed: Mute ("),
        ("os._exit(0)", "ended the process (exit code 0)"),
        ("alarm()", "was ended by an alarm that it set itself"),
        ("RecursionError('deep')", "failed: RecursionError: deep ("),
        ("type('Cancelled', (BaseException,), {})()", "failed: Cancelled ("),
    ],
)
def test_what_no_except_keeps_is_the_plugins_too(
    here: Path, capsys: pytest.CaptureFixture[str], raised: str, says: str
) -> None:
    fault = f"{ALARM}def fault(inputs):\n    raise {raised}\n"
    register = "def pytest_gpusim_register(registry):\n    registry.add_simulator('p', fault)\n"
    (here / f"{PLUGIN}.py").write_text(fault + register)
    sys.path.insert(0, str(here))
    engine = ("--engine", RECORDING / "real" / "1")
    code, err = gpusim(capsys, "-p", PLUGIN, *simulate(*engine, "--simulator", "p", "--out", "o"))
    assert (code, err.count("\n")) == (3, 1)
    assert err.startswith(f"gpusim: the simulator 'p' {says}")


MEDDLES = """
import locale, os, signal, sys, warnings
from pathlib import Path

def half(inputs):
    inputs.out_dir.mkdir(parents=True)
    (inputs.out_dir / "request_metrics.csv").write_text("x")

def moves(inputs):
    half(inputs)
    os.chdir("/")

def warns(inputs):
    half(inputs)
    warnings.simplefilter("error")

def closes(inputs):
    half(inputs)
    sys.stdout.close()

def replaces(inputs):
    half(inputs)
    sys.stdout = sys.stderr = None

def forks(inputs):
    if os.fork():
        os.wait()
    half(inputs)

def ignores(inputs):
    half(inputs)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    locale.setlocale(locale.LC_ALL, "C")
    sys.path.clear()
    sys.setrecursionlimit(500)
    os.close(2)

def pytest_gpusim_register(registry):
    for each in (moves, warns, closes, replaces, forks, ignores):
        registry.add_simulator(each.__name__, each)
"""


@pytest.mark.parametrize("name", ["moves", "warns", "closes", "replaces", "forks", "ignores"])
def test_what_a_plugin_changes_of_the_process_is_undone(
    here: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (here / f"{PLUGIN}.py").write_text(MEDDLES)
    sys.path.insert(0, str(here))

    def state() -> tuple[object, ...]:
        signals = signal.getsignal(signal.SIGINT), locale.setlocale(locale.LC_ALL)
        streams = sys.stdout, sys.stderr, os.fstat(2).st_ino
        return (Path.cwd(), *streams, *signals, sys.path[:], sys.getrecursionlimit(),
                warnings.filters[:])  # fmt: skip

    before = state()
    engine = ("--engine", RECORDING / "real" / "1")
    code, err = gpusim(capsys, "-p", PLUGIN, *simulate(*engine, "--simulator", name, "--out", "o"))
    assert (code, err.count("\n")) == (3, 1), err
    assert err.startswith(f"gpusim: the simulator '{name}' ")
    assert "did not write a run as it must: o: incomplete" in err or name == "forks"
    assert state() == before
    assert not (here / "o").exists()


@pytest.mark.parametrize("how", ["add_simulator", "add_backend", "add_importer"])
def test_what_is_no_function_is_no_part_of_a_plugin(
    here: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    text = f"def pytest_gpusim_register(registry):\n    registry.{how}('five', 5)\n"
    (here / f"{PLUGIN}.py").write_text(text)
    sys.path.insert(0, str(here))
    code, err = gpusim(capsys, "-p", PLUGIN, "doctor")
    assert (code, err.count("\n")) == (3, 1)
    assert "'five': expected a function or its module:attribute, found 5" in err


def test_a_thread_that_a_plugin_left_does_not_keep_the_command(here: Path) -> None:
    (here / "left.py").write_text(
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(60,), name='lingers').start()\n"
    )
    command = [sys.executable, "-m", "pytest_gpusim", "-p", "left", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, cwd=here)
    assert done.returncode == 0
    assert done.stderr == "gpusim: a thread was left running and is ended: 'lingers'\n"


def test_a_termination_is_an_interrupt_with_its_own_exit_code(here: Path) -> None:
    (here / "ends.py").write_text(
        "import os, signal\n"
        "def pytest_gpusim_register(registry):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    command = [sys.executable, "-m", "pytest_gpusim", "-p", "ends", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, cwd=here)
    assert (done.returncode, done.stderr) == (143, "gpusim: interrupted\n")


def test_a_plugin_may_skip_a_test() -> None:
    with pytest.raises(pytest.skip.Exception), plugin_call("a plugin", lambda: None):
        pytest.skip("no device")


def test_a_plugins_importer_is_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, err = gpusim(
        capsys,
        "-p",
        PLUGIN,
        "import-run",
        "bad_importer",
        HOSTILE / "scalar_bin.yaml",
        "--out",
        "o",
    )
    assert (code, err.count("\n")) == (3, 1)
    assert "the importer 'bad_importer' did not write a run as it must" in err
    assert files_below(here) == []


NAMES = st.text(max_size=300) | st.sampled_from(
    [
        "..",
        ".",
        "",
        "/etc/passwd",
        "../../x",
        "a/../b",
        "C:\\x",
        "\0",
        "~",
        " ",
        "x" * 5000,
        "\ud800",
    ]
)


@given(NAMES)
def test_a_name_is_one_part_of_a_path(name: str) -> None:
    part = safe_name(name)
    assert Path(part).parts == (part,)
    assert part not in (".", "..")
    assert part.isprintable()
    assert len(os.fsencode(part)) <= 150
    assert safe_name(part) == part


@given(NAMES, NAMES)
def test_no_two_names_meet(one: str, other: str) -> None:
    assert (safe_name(one) == safe_name(other)) == (one == other)


@given(NAMES)
def test_an_id_leads_nowhere_else(name: str) -> None:
    assert Path("tmp", new_id(name)).resolve().parent == Path("tmp").resolve()


def write_named(out: Path, name: str) -> None:
    requests = [WorkloadRequest(0, 0, 4, 2, 0)]
    prompts = {0: Prompt(0, seed=1, num_tokens=4)}
    write_workload(out, requests, prompts, name=name, seed=0, generator={})


@pytest.mark.parametrize("name", ["../../evil", "/evil", "a/b", "..", "x\x1b[2J", "e" * 400])
def test_a_workload_is_filed_in_its_place(tmp_path: Path, name: str) -> None:
    root = tmp_path / "deep" / "er" / "workloads"
    place = store_workload(root, lambda out: write_named(out, name))
    assert place.parent == root
    assert read_workload(place).workload_id.startswith(name)
    assert [path.name for path in root.iterdir()] == [place.name]
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]


@pytest.mark.parametrize("name", ["../../evil", "/evil", "..", "a/../../b", "x\0y", ".hidden/x"])
def test_a_bundle_is_not_placed_by_a_path(tmp_path: Path, name: str) -> None:
    meta = {"hardware": "cpu", "model": name}
    (tmp_path / "profile_meta.json").write_text(json.dumps(meta))
    assert place_of(tmp_path) is None
    (tmp_path / "profile_meta.json").write_text(json.dumps({"hardware": name, "model": "m"}))
    assert place_of(tmp_path) is None


def tar_xz(path: Path, *members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]) -> None:
    with tarfile.open(path, "w:xz") as tar:
        for member in members:
            entry, content = member if isinstance(member, tuple) else (member, b"")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


@pytest.mark.parametrize(
    "member",
    [
        (entry("../evil"), b"x"),
        (entry("/tmp/evil-of-gpusim"), b"x"),
        entry("case/link", tarfile.SYMTYPE, "/etc/passwd"),
        entry("case/link", tarfile.SYMTYPE, "../../evil"),
        entry("case/hard", tarfile.LNKTYPE, "/etc/passwd"),
        entry("case/link", tarfile.SYMTYPE, "inside"),
        entry("case/pipe", tarfile.FIFOTYPE),
        entry("case/device", tarfile.CHRTYPE),
    ],
    ids=[
        "parent",
        "absolute",
        "symlink",
        "symlink-up",
        "hardlink",
        "symlink-inside",
        "fifo",
        "device",
    ],
)
def test_no_member_of_an_archive_leaves_its_place(tmp_path: Path, member: tarfile.TarInfo) -> None:
    recordings, unpacked = tmp_path / "recordings", tmp_path / "a" / "b" / "unpacked"
    recordings.mkdir()
    tar_xz(recordings / "case.tar.xz", entry("case", tarfile.DIRTYPE), member)
    with suppress(InputError):  # or what is dangerous is left out
        find_recording(recordings, "case", unpacked)
    left = [path for path in tmp_path.rglob("*") if path.is_file() or path.is_symlink()]
    assert all(path.parent == recordings or unpacked in path.parents for path in left)
    assert not any(path.is_symlink() for path in left)
    assert not Path("/tmp/evil-of-gpusim").exists()


def test_an_archive_holds_plain_files_and_folders_alone(tmp_path: Path) -> None:
    """Chains of links that stay inside have led filters outside; holes cost their maker nothing."""
    link = entry("case/b", tarfile.SYMTYPE, "a")
    sparse = entry("case/holes", tarfile.GNUTYPE_SPARSE)
    for name, member in (("case/b", link), ("case/holes", sparse)):
        (tmp_path / "case.tar.xz").unlink(missing_ok=True)
        tar_xz(tmp_path / "case.tar.xz", entry("case", tarfile.DIRTYPE), member)
        with pytest.raises(InputError, match=f"'{name}' is neither a plain file nor a folder"):
            find_recording(tmp_path, "case", tmp_path / "unpacked")
        assert not (tmp_path / "unpacked").exists() or files_below(tmp_path / "unpacked") == []


def test_an_archive_that_unfolds_without_end(tmp_path: Path) -> None:
    path = tmp_path / "case.tar.xz"
    header = entry("case/big")
    header.size = 10**11
    with lzma.open(path, "wb", preset=1) as stream:
        stream.write(header.tobuf())
        for _ in range(80):
            stream.write(bytes(1 << 20))
    with pytest.raises(InputError, match="unpacks to more than 200 times its"):
        find_recording(tmp_path, "case", tmp_path / "unpacked")
    assert not (tmp_path / "unpacked").exists() or files_below(tmp_path / "unpacked") == []


def bomb(path: Path) -> Path:
    opener = partial(lzma.open, preset=0) if path.suffix == ".xz" else gzip.open
    with opener(path, "wb") as stream:
        stream.write(b"a,b\n")
        for _ in range(17):
            stream.write(b"0,0\n" * (1 << 20))
    return path


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
def test_a_table_that_unfolds_without_end(tmp_path: Path, suffix: str) -> None:
    path = bomb(tmp_path / f"x.csv{suffix}")
    with open_text(path) as stream, pytest.raises(InputError, match="unpacks to more than 200"):
        stream.read()
    with pytest.raises(InputError, match="raise the limit with GPUSIM_MAX_UNPACKED_RATIO=N"):
        read_table(path, required=["a"], integers=["a"])


def test_a_result_that_unfolds_without_end_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """However it is called: many importers look at it, and it is unpacked twice at most."""
    path = bomb(tmp_path / "result.json")
    code, err = gpusim(capsys, "compare", path, RECORDING / "real" / "1", "--out", tmp_path / "o")
    assert (code, err.count("\n")) == (2, 1)
    assert f"{path}: unpacks to more than 200 times its" in err


def test_a_limit_can_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bomb(tmp_path / "x.csv.gz")
    monkeypatch.setenv("GPUSIM_MAX_UNPACKED_RATIO", "5000")
    with open_text(path) as stream:
        assert len(stream.read()) == 4 + 17 * (1 << 22)


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.variable)
def test_every_limit_is_documented(limit: object) -> None:
    text = (Path(__file__).parents[1] / "docs" / "limits.md").read_text()
    assert f"`{limit.variable}`" in text  # type: ignore[attr-defined]
    assert f"{limit.default:,}" in text  # type: ignore[attr-defined]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", '"\\ud800"', '{"\\udfff": 1}'])
def test_values_that_json_has_not_are_found_when_read(tmp_path: Path, value: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(f'{{"a": {{"b": [1, {value}]}}}}')
    with pytest.raises(InputError, match=r"a\.b\[1\].*is no value of JSON"):
        read_json(path)


def test_names_are_data() -> None:
    said = printable("x\x1b[2Jy\u202ez\x07\r\n\ud800\x9b31m é日本")
    assert said == "x\\x1b[2Jy\\u202ez\\x07 \\ud800\\x9b31m é日本"


def test_nothing_stays_of_a_directory_that_could_not_be_filled(tmp_path: Path) -> None:
    with pytest.raises(InputError), atomic_directory(tmp_path / "out"):
        raise InputError("x", "", "y")
    assert files_below(tmp_path) == []


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def make_hole(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(3 << 30)


READS = {
    "compare": lambda file: ["compare", file, RECORDING / "real" / "1"],
    "import-run": lambda file: ["import-run", "csv", file],
    "workload": lambda file: ["workload", "import", "azure", file],
    "engine": lambda file: simulate("--engine", file),
    "tolerances": lambda file: ["compare", *[RECORDING / "real" / "1"] * 2, "--tolerances", file],
    "sweep": lambda file: ["sweep", file],
    "decide": lambda file: ["decide", file],
    "points": lambda file: ["points", file],
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize(
    ("make", "says"),
    [(make_pipe, "is a pipe, expected a file"), (make_device, "is a device, expected a file"),
     (make_hole, "")],
)  # fmt: skip
def test_a_file_without_an_end_is_not_waited_for(
    here: Path,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], None],
    says: str,
    read: str,
) -> None:
    make(here / "given.toml")
    code, err = gpusim(capsys, *READS[read](here / "given.toml"))
    assert (code, err.count("\n")) == (2, 1), err
    assert "given.toml: " in err
    assert says in err


@pytest.mark.parametrize("name", ["attention.csv", "mlp.csv", "profile_meta.json"])
def test_a_pipe_in_a_bundle_is_named(
    here: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    shutil.copytree(RECORDING / "profile", here / "profile")
    (here / "profile" / name).unlink()
    os.mkfifo(here / "profile" / name)
    code, err = gpusim(capsys, "check", here / "profile")
    assert code in (1, 2)
    assert "Traceback" not in err


def test_zero_bytes_are_no_table_but_may_be_in_a_log(here: Path) -> None:
    (here / "x.csv").write_bytes(b"a\n1\n" + bytes(9) + b"\n2\n")
    with pytest.raises(InputError, match=r"x.csv: holds zero bytes: it is no text"):
        read_table(here / "x.csv", required=["a"], integers=["a"])
    with gzip.open(here / "x.csv.gz", "wb") as stream:
        stream.write(b"a\n1\n" + bytes(9))
    with pytest.raises(InputError, match="holds zero bytes"), open_text(here / "x.csv.gz") as text:
        text.read()
    log = (HOSTILE.parents[1] / "vllm_0.32.0_cpu.log").read_bytes()
    (here / "rotated.log").write_bytes(bytes(1 << 12) + b"\n" + log)
    assert EngineSettings.load(here / "rotated.log").to_json()


def test_what_does_not_fit_into_memory_is_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_much(path: object) -> None:
        raise MemoryError

    monkeypatch.setattr("pytest_gpusim.workload.read_workload", too_much)
    assert gpusim(capsys, *simulate()) == (
        3,
        "gpusim: it needs more memory than this process may have\n",
    )
