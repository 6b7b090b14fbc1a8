"""JSON files: written so that anyone can read them, errors of broken ones in one line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from pytest_gpusim.errors import InputError
from pytest_gpusim.json_documents import check_schema_version, parse_json, read_json, write_json


def test_nan_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"p50": float("nan")})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1,\n"b" 2}', "line 2: not JSON"),
        (b'{"a": {"b": 1, "c": {}, "b": 1}}', "the key 'b' stands twice"),
        (b"\xff\xfe", "is UTF-16, not a text: save it as UTF-8"),
        (b"", "line 1: not JSON"),
        (None, "no such file"),
    ],
)
def test_bad_json_is_one_line(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_json(path, fix="do this")
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).endswith("; do this")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", ["1e999", "-1E+400", "9" * 400 + ".0", "1" + "0" * 310 + "e1"])
def test_a_number_beyond_those_of_64_bits_is_found_when_read(tmp_path: Path, number: str) -> None:
    (tmp_path / "a.json").write_text(f'{{"a": [0, {number}], "b": "1e999"}}')
    with pytest.raises(InputError, match=r"a\.json: a\[1\]: -?inf is no value of JSON"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text('{"a": 1e300, "b": "1e999"}')
    assert read_json(tmp_path / "a.json") == {"a": 1e300, "b": "1e999"}


def test_a_whole_number_that_no_float_can_be_is_found_when_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(f'{{"a": [0, -1{"0" * 400}], "b": {2**62}}}')
    with pytest.raises(InputError, match=r"a\.json: a\[1\]: -10+\.\.\.0+ is no value of JSON"):
        read_json(tmp_path / "a.json")
    assert read_json(tmp_path / "a.json", plain=True) == {"a": [0, None], "b": 2**62}


@pytest.mark.parametrize("version", [0, "1", None, True, 1.0])
def test_a_schema_version_is_an_integer(version: object) -> None:
    with pytest.raises(InputError, match="expected the integer 1"):
        check_schema_version("meta.json", {"schema_version": version})


def test_a_newer_schema_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"meta.json: schema_version: 2 is newer than the 1"):
        check_schema_version("meta.json", {"schema_version": 2})


def test_of_a_tools_records_the_last_of_two_keys_counts() -> None:
    assert parse_json('{"a": 1, "a": 2}', "results.json") == {"a": 2}


def test_json_may_be_gzipped(tmp_path: Path) -> None:
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}'))
    assert read_json(path) == {"a": 1}
