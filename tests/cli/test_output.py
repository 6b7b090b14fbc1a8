"""What is printed is plain, whatever is in a name, and nobody needs to listen to the end."""

from __future__ import annotations

import errno
import io
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_gpusim.cli import main
from pytest_gpusim.cli.output import plain_output
from pytest_gpusim.errors import plain_lines


def test_names_do_not_act_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with plain_output():
        print("model\x1b[2J\x07 \u202eevil\n│ 1,152 ms │\té")
    assert capsys.readouterr().out == "model\\x1b[2J\\x07 \\u202eevil\n│ 1,152 ms │\té\n"


def test_lines_stay_lines() -> None:
    assert plain_lines("a  b\n\tc\r\x00\ud800") == "a  b\n\tc\\r\\x00\\ud800"


class Ascii(io.TextIOWrapper):
    """A terminal without more than ASCII, that cannot be told to replace."""

    def reconfigure(self, **_: object) -> None:
        """Do nothing."""


def test_signs_that_an_encoding_lacks_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", Ascii(raw, encoding="ascii"))
    with plain_output():
        print("│ ±5%")
    assert raw.getvalue() == b"? ?5%\n"


class Gone(io.StringIO):
    """A pipe whose reader has left."""

    def write(self, text: str) -> int:
        raise BrokenPipeError

    def flush(self) -> None:
        raise BrokenPipeError


def test_a_reader_may_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Gone())
    with plain_output():
        print("nobody reads this")


class Full(io.StringIO):
    """A file on a disk that is full."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_what_cannot_be_printed_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", Full())
    assert main(["clean", "--dry-run"]) == 2
    said = "gpusim: standard output cannot be written: No space left on device\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("stream", [None, Gone(), Full()])
def test_an_exit_code_does_not_hang_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stream: io.StringIO | None
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    assert main(["history", "--dir", str(tmp_path / "nothing")]) == 2


def test_a_stream_that_was_closed_before_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.chdir(tmp_path)
    assert main(["clean"]) == 0
    assert capsys.readouterr().err == ""


def test_the_exit_code_of_a_command_whose_reader_left(tmp_path: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m pytest_gpusim doctor | head -c 1; echo ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", capture_output=True, text=True, cwd=tmp_path,
        check=False, timeout=120,
    )  # fmt: skip
    assert done.stdout.endswith("\n0\n") or done.stdout.endswith("0\n")
    assert done.stderr == ""


def test_names_do_not_act_on_standard_error_either(capsys: pytest.CaptureFixture[str]) -> None:
    with plain_output():
        print("note \x1b[2J \u202e\n\r 10%", file=sys.stderr)
    assert capsys.readouterr().err == "note \\x1b[2J \\u202e\n\r 10%\n"
    with pytest.raises(SystemExit, match="2"):
        main(["compare", "a", "b", "--no-such\x1b\n" + "x" * 5000])
    assert main(["compare", "\x1b[2J" + "x" * 5000, "y\nz"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 2
    assert "\x1b" not in err
    assert len(err) < 4000
