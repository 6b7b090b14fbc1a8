"""YAML that PyYAML itself trips over is one line that names the file and the line in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_gpusim.errors import InputError
from pytest_gpusim.yaml_documents import read_yaml

BOMB = "a: &a0 [x, x]\n" + "".join(
    f"b{i}: &a{i + 1} [{', '.join([f'*a{i}'] * 10)}]\n" for i in range(9)
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: 0b_\n", "line 2"),
        ("a: !!bool ''\n", "line 1"),
        ("a: !!int ''\n", "line 1"),
        ("a: !!float ''\n", "line 1"),
        ("a: 2001-02-30\n", "line 1"),
        ("a: !!timestamp ''\n", "line 1"),
        ("a: 2001-12-14t21:59:43.10-99:99\n", "line 1"),
        (f"a: {'9' * 5000}\n", "line 1"),
        (f"a: {'[' * 100}{']' * 100}\n", "nested deeper than 64"),
        (BOMB, "holds more than 100,000 values"),
        ("a: &a [*a]\n", "*a names nothing"),
        ("a: *b\n", "*b names nothing"),
        ("a: [1\n", "not YAML"),
        ("a: \x07\n", "not YAML"),
        ("a: !!python/object/apply:os.system [x]\n", "not YAML"),
        ("? [a]\n: 1\n", "not YAML"),
        ("a: {b: 1}\nc: 2\n'a': 3\n", "line 3: the key 'a' stands twice"),
        ("- {b: {}, c: [b, b], b: 1}\n", "line 1: the key 'b' stands twice"),
        ("a: 1\n---\nb: 2\n", "expected one YAML document, has 2"),
        ("x: " + "y" * 2**20, "has more than 1,048,576 bytes"),
    ],
)
def test_broken(tmp_path: Path, text: str, line: str) -> None:
    path = tmp_path / "engine.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as found:
        read_yaml(path)
    assert str(path) in str(found.value)
    assert line in str(found.value)


def test_limit_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "engine.yaml"
    path.write_text(f"a: {'[' * 70}{']' * 70}\n")
    monkeypatch.setenv("GPUSIM_MAX_DEPTH", "100")
    assert str(read_yaml(path)["a"]).count("[") == 70


def test_aliases_are_read(tmp_path: Path) -> None:
    path = tmp_path / "engine.yaml"
    path.write_text("a: &x {b: [1, 2]}\nc: *x\n")
    assert read_yaml(path) == {"a": {"b": [1, 2]}, "c": {"b": [1, 2]}}


def test_merged_keys_are_no_doubles(tmp_path: Path) -> None:
    path = tmp_path / "engine.yaml"
    path.write_text("a: &x {b: 1, c: 2}\nd: &y {b: 3, <<: *x}\ne: {<<: *x, <<: *y, b: 4}\n")
    read = read_yaml(path)
    assert read["d"] == {"b": 3, "c": 2}
    assert read["e"] == {"b": 4, "c": 2}
