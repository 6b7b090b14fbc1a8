"""Changes that make a genuine file a broken one: of its bytes, of its JSON, of its table."""

from __future__ import annotations

import copy
import csv
import io
import json
import random
import re
import tarfile
from typing import Any

_HUGE = "9" * 4000
_TOKENS = (
    b"", b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\n", b"\r\n\r\n", b",", b'"', b"{", b"[" * 3000,
    b"NaN", b"Infinity", b"1e999", b"-1", b"-0", b"0x10", b"1_000", b"null", b"true", b"../../x",
    b"\x1b[2J", b"<script>", b"9" * 400, b"9223372036854775808", b"&a [*a]", b"!!int ''",
    "\u202e".encode(), b"\\ud800", b"2001-02-30", b"=cmd()", b"%s%n", b"0.1", b"1e-320",
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, False, "", 0, -1, 1, 0.5, -0.0, 1e308, 5e-324, float("nan"), float("inf"),
    10**30, -(10**30), 2**63, "x", "NaN", "\x1b[2J", "../../evil", "/etc/passwd", "\ud800",
    "a" * 5000, [], {}, [[]], [None], {"": None}, ["x"], [[["x"]]], {"x": {"y": [1]}}, "1", "1.5",
    "torch.float32", "<img src=x onerror=y>", 1.5, 3.0, 2**31, 2**53 + 1, 2**62, -0.5, 1e-9, 1e18,
    "2ms", "\u0660", "a\nb", "a\0b", "a/b", ".", {"time_ns": "x"}, [{"name": 1}],
)  # fmt: skip
_CELLS = (
    "", " ", "nan", "inf", "-inf", "-1", "0", "0.5", "1e999", "1e30", "9" * 400, "x", '"', "None",
    "9223372036854775808", "-9223372036854775809", "1_0", "0x1", "٣", "\x1b[2J", "=1+1", "1,5",
    "1e-320", "\0", "true", "2026-01-01", "../../x", "<b>", "1.0", "1e3", "4611686018427387904",
    "9007199254740993", "9223372036854775807", "-0.5", "1e18", "1e-9", "NaN", "Infinity", "\ufeff",
)  # fmt: skip
_WORDS = (
    "[]", "{}", "[[1]]", "{a: [b]}", "9" * 5000, "-" * 3000, "07:32:00", "1:30", "0o17", "017",
    "1979-05-27T07:32:00Z", "{a = 1}", "[[1], 2]", '"x"', "'x'", "&a x", "*a", "<<",
    "!!binary aGk=", "!!set {a}", "!!omap [a: 1]", "!!float 1", "!!str 1", "~", "no", "2**3", "$X",
    "${X:-1}", "a=b", '"\\ud800"', "+inf", ".inf", ".nan", "-inf", "|", ">",
)  # fmt: skip


def mutate(content: bytes, suffix: str, draw: random.Random) -> bytes:
    """``content`` with one to three changes that suit a file of that suffix."""
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        kind = draw.random()
        if suffix == ".tar" and kind < 0.5:
            content = _tar(content, draw)
        elif suffix in (".json", ".jsonl") and kind < 0.7:
            content = _json(content, suffix, draw)
        elif suffix == ".csv" and kind < 0.7:
            content = _table(content, draw)
        elif suffix not in (".json", ".jsonl", ".csv", ".tar", ".npz") and kind < 0.6:
            content = _word(content, draw)
        elif suffix not in (".tar", ".npz") and kind < 0.7:
            content = _lines(content, draw)
        else:
            content = _bytes(content, draw)
    return content


def _bytes(content: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(content) + 1)
    end = min(len(content), place + draw.choice((0, 1, 1, 4, 40, 4000)))
    how = draw.randrange(6)
    if how == 0:
        return content[:place]
    if how == 1:
        return content[:place] + content[end:]
    if how == 2:
        return content[:end] + content[place:]
    if how == 3 and content:
        at = draw.randrange(len(content))
        return content[:at] + bytes([content[at] ^ (1 << draw.randrange(8))]) + content[at + 1 :]
    return content[:place] + draw.choice(_TOKENS) + content[end:]


def _tar(content: bytes, draw: random.Random) -> bytes:
    """Another kind, name or aim of a member, under a header whose checksum holds."""
    out = io.BytesIO()
    try:
        with (
            tarfile.open(fileobj=io.BytesIO(content)) as given,
            tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as made,
        ):
            members = given.getmembers()
            chosen = draw.choice(members)
            for member in members:
                stream = given.extractfile(member) if member.isreg() else None
                if member is chosen:
                    member.type = draw.choice((*tarfile.SUPPORTED_TYPES, b"9", member.type))
                    member.name = draw.choice((member.name, "../x", "/tmp/x", "case/./a/../b", ""))
                    member.linkname = draw.choice(("", "../../x", "/etc/passwd", member.name))
                    member.mode = draw.choice((member.mode, 0, 0o6777))
                made.addfile(member, stream)
    except (tarfile.TarError, OSError, ValueError, IndexError, UnicodeError):
        return _bytes(content, draw)
    return out.getvalue()


def _lines(content: bytes, draw: random.Random) -> bytes:
    """A line twice, none of it, or at another place."""
    lines = content.splitlines(keepends=True) or [b""]
    at, to = draw.randrange(len(lines)), draw.randrange(len(lines))
    how = draw.randrange(3)
    line = lines[at] if how == 0 else lines.pop(at)
    if how != 1:
        lines.insert(to, line)
    return b"".join(lines)


def _word(content: bytes, draw: random.Random) -> bytes:
    """Another value in the place of a word or a number of a text: TOML, YAML, a log, a script."""
    words = list(re.finditer(rb"[\w.+-]+", content))
    if not words:
        return _bytes(content, draw)
    at = draw.choice(words)
    value = draw.choice((*_CELLS, *_WORDS))
    return content[: at.start()] + value.encode() + content[at.end() :]


def _json(content: bytes, suffix: str, draw: random.Random) -> bytes:
    try:
        if suffix == ".jsonl":
            lines = content.decode().splitlines()
            at = draw.randrange(len(lines))
            lines[at] = json.dumps(_changed(json.loads(lines[at]), draw))
            return "\n".join(lines).encode("utf-8", "surrogatepass")
        return json.dumps(_changed(json.loads(content), draw)).encode("utf-8", "surrogatepass")
    except (ValueError, IndexError, RecursionError):
        return _bytes(content, draw)


def _changed(document: Any, draw: random.Random) -> Any:
    """``document`` with one value, key or entry changed somewhere inside."""
    path: list[tuple[Any, Any]] = []
    node = document
    while isinstance(node, dict | list) and node and (not path or draw.random() < 0.85):
        keys = list(node) if isinstance(node, dict) else range(len(node))
        key = draw.choice(list(keys))
        path.append((node, key))
        node = node[key]
    if not path:
        return draw.choice(_VALUES)
    owner, key = path[-1]
    how = draw.randrange(10)
    if how == 0:
        del owner[key]
    elif how in (8, 9):
        owner[key] = _elsewhere(document, draw)
    elif how == 1 and isinstance(owner, list):
        owner.insert(key, owner[key])
    elif how == 2 and isinstance(owner, dict):
        owner[str(draw.choice(_VALUES))] = owner.pop(key)
    elif how == 3:
        deep: Any = draw.choice(_VALUES)
        for _ in range(draw.choice((1, 5, 70, 500))):
            deep = [deep]
        owner[key] = deep
    elif how == 4 and isinstance(node, int | float) and not isinstance(node, bool):
        owner[key] = node * draw.choice((-1, 1000, 0.001, 0, 1e9, 10**6))
    else:
        owner[key] = draw.choice(_VALUES)
    return document


def _elsewhere(document: Any, draw: random.Random) -> Any:
    """A copy of some value of the document: what is right at one place may not be at another."""
    node = document
    while isinstance(node, dict | list) and node and draw.random() < 0.8:
        node = draw.choice(list(node.values()) if isinstance(node, dict) else node)
    return copy.deepcopy(node)


def _table(content: bytes, draw: random.Random) -> bytes:
    try:
        rows = list(csv.reader(io.StringIO(content.decode())))
    except (ValueError, csv.Error):
        return _bytes(content, draw)
    if not rows:
        return _bytes(content, draw)
    how, at = draw.randrange(10), draw.randrange(len(rows))
    column = draw.randrange(max(1, len(rows[0])))
    if how == 0:
        rows = rows[:1]
    elif how == 1:
        del rows[at]
    elif how == 2:
        rows.insert(at, list(rows[at]))
    elif how == 3:
        rows = [row[:column] + row[column + 1 :] for row in rows]
    elif how == 4:
        draw.shuffle(rows[0])
    elif how == 5:
        rows[at].append(draw.choice(_CELLS))
    elif how == 6:
        value = draw.choice(_CELLS)
        rows = rows[:1] + [[*row[:column], value, *row[column + 1 :]] for row in rows[1:]]
    elif how == 7:  # a cell of another row or column
        other = rows[draw.randrange(len(rows))]
        if other and column < len(rows[at]):
            rows[at][column] = draw.choice(other)
    elif column < len(rows[at]):
        rows[at][column] = draw.choice(_CELLS)
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue().encode("utf-8", "surrogatepass")
