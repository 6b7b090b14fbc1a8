"""Runs: what is written is read back, in every form that the contract allows."""

from __future__ import annotations

import csv
import gzip
import json
import lzma
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_gpusim.errors import UsageError
from pytest_gpusim.limits import UNPACKED_RATIO
from pytest_gpusim.runs import REQUEST_COLUMNS, TOKEN_COLUMNS, read_run, write_run
from tests.runs.factory import META, REQUESTS, TOKENS, request_row, token_rows


def write(out: Path, **changes: Any) -> Path:
    write_run(out, **{"requests": REQUESTS, "tokens": TOKENS, "meta": META, **changes})
    return out


@pytest.mark.parametrize("compress", [False, True])
def test_a_run_comes_back_as_it_was(tmp_path: Path, compress: bool) -> None:
    steps = [{"step": 0, "start_ns": 0, "duration_ns": 500, "running": 3}]
    batches = [{0: 16, 1: 16}, {0: 1}]
    run = read_run(write(tmp_path / "r", compress=compress, steps=steps, step_batches=batches))
    assert run.requests["request_id"].tolist() == [0, 1, 2, 3]
    assert run.requests["ttft_ns"].fillna(-1).tolist() == [500, 500, -1, 600]
    assert run.finished["request_id"].tolist() == [0, 1, 3]
    assert run.tokens is not None
    assert list(run.tokens.columns) == list(TOKEN_COLUMNS)
    assert run.tokens.to_numpy().tolist() == [list(row.values()) for row in TOKENS]
    assert run.steps is not None
    assert run.steps["running"].tolist() == [3]
    assert run.steps["waiting"].isna().all()
    assert run.batches() == batches
    assert run.run_id == "r"
    assert run.meta["token_times"] is True
    assert run.meta["engine"] == {"max_num_seqs": 4}
    failed = run.requests[run.requests["status"] == "error"].iloc[0]
    assert failed["error_msg"] == "no answer,\nafter 30 s"
    assert run.meta["schema_version"] == (2 if compress else 1)
    suffix = ".csv.xz" if compress else ".csv"
    assert (run.path / f"token_metrics{suffix}").exists()


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    for compress in (False, True):
        first = write(tmp_path / f"a{compress}", compress=compress)
        second = write(tmp_path / f"b{compress}", compress=compress)
        for path in first.glob("*.csv*"):
            assert path.read_bytes() == (second / path.name).read_bytes()
            if compress:
                plain = tmp_path / "aFalse" / path.name.removesuffix(".xz")
                assert lzma.decompress(path.read_bytes()) == plain.read_bytes()


def test_a_run_without_token_times_says_so(tmp_path: Path) -> None:
    run = read_run(write(tmp_path / "r", tokens=None))
    assert run.tokens is None
    assert run.meta["token_times"] is False
    assert (run.path / "token_metrics.csv").read_text() == ",".join(TOKEN_COLUMNS) + "\n"
    (run.path / "token_metrics.csv").unlink()
    assert read_run(run.path).tokens is None


def test_a_run_of_errors_alone_is_a_run(tmp_path: Path) -> None:
    run = read_run(write(tmp_path / "r", requests=[REQUESTS[-1]], tokens=[]))
    assert run.finished.empty


def test_tokens_of_a_failed_request_stay(tmp_path: Path) -> None:
    run = read_run(write(tmp_path / "r", tokens=[*TOKENS, *token_rows(2, [400, 450])]))
    assert run.tokens is not None
    assert (run.tokens["request_id"] == 2).sum() == 2


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_other_peoples_tables_are_read(
    tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    """Columns and rows in any order, unknown columns, optional ones absent, compressed."""
    folder = write(tmp_path / "r")
    expected = read_run(folder)
    dropped = {"sent_time_ns", "scheduled_time_ns", "num_cached_tokens", "backend"}
    dropped |= {"error_type", "error_msg"}
    shuffled = random.Random(1)
    for name in ("request_metrics.csv", "token_metrics.csv"):
        with (folder / name).open(newline="") as stream:
            rows = [{"node": "n1", **row} for row in csv.DictReader(stream)]
        columns = [column for column in rows[0] if column not in dropped]
        shuffled.shuffle(columns)
        shuffled.shuffle(rows)
        lines = [",".join(columns), *(",".join(row[c] for c in columns) for row in rows)]
        (folder / name).unlink()
        text = "\r\n".join(lines).encode()
        (folder / f"{name}{suffix}").write_bytes(pack(text))
    (folder / "run_meta.json").write_text(json.dumps({"schema_version": 1}))
    run = read_run(folder)
    kept = [column for column in REQUEST_COLUMNS if column not in dropped]
    assert run.requests[kept].equals(expected.requests[kept])
    assert run.requests["sent_time_ns"].isna().all()
    assert run.tokens is not None
    assert expected.tokens is not None
    assert run.tokens[list(TOKEN_COLUMNS)].equals(expected.tokens)


def test_ten_thousand_requests_of_300_tokens_pack_into_4_mb(tmp_path: Path) -> None:
    """A tenth of it, on an engine that serves 64 at a time, packs into a tenth of that."""
    stream = random.Random(1)
    requests, tokens, waiting, clock = [], [], 1000, 0
    active: dict[int, list[int]] = {}
    while waiting or active:
        if waiting and len(active) < 64:
            waiting -= 1
            active[999 - waiting] = []
        clock += 25_000_000 + stream.randrange(5_000_000)
        for number, times in list(active.items()):
            times.append(clock)
            if len(times) == 300:
                del active[number]
                requests.append(request_row(number, times))
                tokens.extend(token_rows(number, times))
    folder = write(tmp_path / "r", requests=requests, tokens=tokens, compress=True)
    assert len(tokens) == 300_000
    assert sum(path.stat().st_size for path in folder.iterdir()) < 400_000
    run = read_run(folder)
    assert run.tokens is not None
    assert run.tokens["request_id"].is_monotonic_increasing


def test_batches_that_never_change_stay_within_the_limits_of_readers(tmp_path: Path) -> None:
    batch = dict.fromkeys(range(50_000, 50_256), 1)
    folder = write(tmp_path / "r", compress=True, step_batches=[batch] * 3000)
    plain = write(tmp_path / "s", step_batches=[batch] * 3000) / "step_batches.jsonl"
    packed = folder / "step_batches.jsonl.gz"
    assert plain.stat().st_size < UNPACKED_RATIO.value * packed.stat().st_size


def test_an_occupied_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "notes").touch()
    with pytest.raises(UsageError, match="not empty"):
        write(tmp_path / "r")


@pytest.mark.parametrize("compress", [False, True])
def test_token_ids_are_kept_where_they_are_known(tmp_path: Path, compress: bool) -> None:
    known = [{**row, "token_id": 50 + n} for n, row in enumerate(TOKENS)]
    known[2]["token_id"] = None
    write_run(tmp_path / "r", requests=REQUESTS, tokens=known, meta=META, compress=compress)
    tokens = read_run(tmp_path / "r").tokens
    assert tokens is not None
    assert tokens["token_id"].fillna(-1).tolist() == [50, 51, -1, 53, 54, 55]
    rows = [tuple(row.values()) for row in known]
    write_run(tmp_path / "s", requests=REQUESTS, tokens=rows, meta=META, compress=compress)
    name = "token_metrics.csv.xz" if compress else "token_metrics.csv"
    assert (tmp_path / "r" / name).read_bytes() == (tmp_path / "s" / name).read_bytes()


@given(
    gaps=st.lists(st.lists(st.integers(0, 2**55), min_size=1, max_size=5), min_size=1, max_size=6),
    text=st.text(st.characters(codec="utf-8", exclude_characters="\r\0")),
    compress=st.booleans(),
)
@settings(max_examples=50, deadline=None)
def test_any_times_survive(
    tmp_path_factory: pytest.TempPathFactory, gaps: list[list[int]], text: str, compress: bool
) -> None:
    requests, tokens = [], []
    for number, steps in enumerate(gaps):
        times = [100 * number + steps[0]]
        for gap in steps[1:]:
            times.append(times[-1] + gap)
        requests.append(request_row(number, times, error_msg=text))
        tokens.extend(token_rows(number, times))
    out = tmp_path_factory.mktemp("trip") / "r"
    write_run(out, requests=requests, tokens=tokens, meta={}, compress=compress)
    run = read_run(out)
    for column in ("arrival_time_ns", "ttft_ns", "completion_time_ns"):
        assert run.requests[column].tolist() == [row[column] for row in requests]
    found = run.requests["error_msg"].fillna("").tolist()
    assert found == [text] * len(requests)
    assert run.tokens is not None
    assert run.tokens.to_numpy().tolist() == [list(row.values()) for row in tokens]
