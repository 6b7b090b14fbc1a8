"""The reader of tables held against the text of each cell: what is read is what stands there."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

from tests.fuzz.readers import Reader

_INTEGERS, _NUMBERS = ("id", "time", "delta"), ("share",)
_TABLES = {
    "many.csv": "id,time,share,delta,note\n"
    + "".join(f"{n},{n * 1000003 if n % 3 else ''},{n / 7},{-n},a\n" for n in range(12)),
    "one.csv": "id,time,share,delta,note\n1,2,0.5,-3,x\n",
    "epoch.csv": "id,time,share,delta\n1700000000000000001,1700000000000000003,1e3,0\n2,4.0,1,0\n",
    "truth.csv": "id,time,share,delta\n1,true,0,0\n0,false,1,1\n",
}


def table_readers(scratch: Path) -> Iterator[Reader]:
    """The reader; its tables are made in ``scratch``."""
    folder = scratch / "tables"
    folder.mkdir()
    for name, text in _TABLES.items():
        (folder / name).write_text(text)
    yield Reader("table of numbers", sorted(folder.iterdir()), _read, share=2)


def _read(path: Path, out: Path) -> None:
    import pandas as pd

    from pytest_gpusim.tables import read_table

    frame = read_table(
        path,
        required=("id", "time", "share"),
        integers=_INTEGERS,
        numbers=_NUMBERS,
        nullable=("time",),
        signed=("delta",),
    )
    with path.open(encoding="utf-8-sig", newline="") as stream:
        header, *rows = [row for row in csv.reader(stream) if "".join(row).strip() or len(row) > 1]
    if len(rows) != len(frame):
        return  # quotes and ends of lines that the two take differently
    names = [name.strip() for name in header]
    for name in (*_INTEGERS, *_NUMBERS):
        if name not in frame.columns:
            continue
        place = names.index(name)
        texts = [row[place].strip() if place < len(row) else "" for row in rows]
        for text, value in zip(texts, frame[name].tolist(), strict=True):
            said = None if not text else (float if name in _NUMBERS else _whole)(text)
            found = None if pd.isna(value) else value
            assert said == found, f"{name}: {text!r} is read as {found!r}"


def _whole(text: str) -> int:
    return int(Decimal(text))
