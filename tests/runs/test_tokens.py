"""A token table that is held to the contract chunk by chunk, as the whole of it would be."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pandas as pd
import pytest

from pytest_gpusim.errors import InputError
from pytest_gpusim.runs import TOKEN_COLUMNS, read_run, write_run
from pytest_gpusim.runs.tokens import read_tokens, tokens_hold
from tests.runs.factory import META, REQUESTS, TOKENS, token_rows

HEADER = ",".join(TOKEN_COLUMNS)
ROWS = [",".join(map(str, row.values())) for row in TOKENS]  # of requests 0 (3 tokens), 1 (2), 3
IN_TIME = sorted(ROWS, key=lambda row: int(row.split(",")[2]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_run(tmp_path / "r", requests=REQUESTS, tokens=TOKENS, meta=META)
    return tmp_path / "r"


def table(folder: Path, rows: list[str], header: str = HEADER) -> Path:
    """The run's token table, with other rows."""
    path = folder / "token_metrics.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.mark.parametrize("chunk_rows", [1, 2, 4, 100])
@pytest.mark.parametrize("rows", [ROWS, IN_TIME], ids=["by request", "by time"])
def test_a_good_table_holds(folder: Path, rows: list[str], chunk_rows: int) -> None:
    requests = read_run(folder).requests
    path = table(folder, rows)
    assert tokens_hold(path, requests, chunk_rows=chunk_rows)
    packed = path.with_suffix(".csv.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert tokens_hold(packed, requests, chunk_rows=chunk_rows)


@pytest.mark.parametrize("chunk_rows", [1, 2, 4, 100])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0,1,600,100", "0,2,600,100"),
        ("0,0,500,500", "0,1,500,500"),
        ("0,2,700,100", "0,2,599,100"),
        ("0,1,600,100", "0,1,600,-1"),
        ("0,1,600,100", "0,1,,100"),
        ("0,1,600,100", "0,1,6e2x,100"),
        ("0,1,600,100", "0,1,600,100,1"),
        ("0,0,500,500", "0,0,505,500"),
        ("3,0,900,600", "9,0,900,600"),
        ("3,0,900,600", None),
        ("1,1,700,100", None),
    ],
)
def test_a_broken_table_does_not(folder: Path, old: str, new: str | None, chunk_rows: int) -> None:
    if pd.__version__ < "3" and chunk_rows == 1 and new is not None and new.count(",") > 3:
        pytest.skip("pandas 2 drops what is too much in a piece of one row")
    requests = read_run(folder).requests
    assert old in ROWS
    changed = [new if row == old else row for row in ROWS]
    path = table(folder, [row for row in changed if row is not None])
    assert not tokens_hold(path, requests, chunk_rows=chunk_rows)
    with pytest.raises(InputError):
        read_tokens(path, requests)


def test_what_the_chunks_cannot_tell_the_reader_decides(folder: Path) -> None:
    """Rows of a request out of order, a column missing, no header."""
    requests = read_run(folder).requests
    path = table(folder, ROWS[::-1])
    assert not tokens_hold(path, requests)
    assert len(read_tokens(path, requests)) == len(ROWS)
    assert not tokens_hold(table(folder, ROWS, HEADER.replace("token_index", "index")), requests)
    assert not tokens_hold(table(folder, [], ""), requests)


def test_tokens_of_a_failed_request_and_unknown_token_ids_hold(folder: Path) -> None:
    requests = read_run(folder).requests
    late = [",".join(map(str, row.values())) for row in token_rows(2, [400, 450])]
    rows = [f"{row},{'' if number % 2 else 5}" for number, row in enumerate([*ROWS, *late])]
    path = table(folder, rows, HEADER + ",token_id")
    assert tokens_hold(path, requests, chunk_rows=3)
    assert len(read_tokens(path, requests)) == len(rows)


def test_shuffled_rows_are_read_in_order(folder: Path) -> None:
    requests = read_run(folder).requests
    expected = read_run(folder).tokens
    rows = ROWS.copy()
    random.Random(3).shuffle(rows)
    assert read_tokens(table(folder, rows), requests).equals(expected)
