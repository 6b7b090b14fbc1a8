"""What is said of long work, and how often; the clock is the test's."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from pytest_gpusim import progress
from pytest_gpusim.cli import main
from pytest_gpusim.json_documents import read_json
from pytest_gpusim.progress import PACE_S, Progress, counted, duration, lines_to, ticked
from pytest_gpusim.tables import read_table


def said_of(total, seconds_each):
    lines, now = [], [0.0]
    with (
        lines_to(lines.append),
        Progress("simulate", total, "requests", clock=lambda: now[0]) as bar,
    ):
        for _ in range(total):
            now[0] += seconds_each
            bar.advance()
    return lines


def test_short_work_says_nothing():
    assert said_of(100, 0.02) == []


def test_long_work_says_what_is_left_at_a_decent_pace():
    lines = said_of(1000, 0.1)
    assert lines[0].startswith("simulate: ")
    assert "of 1,000 requests, about " in lines[0]
    assert 5 <= len(lines) <= 1 + 100 / PACE_S


def test_what_remains_is_in_proportion():
    assert said_of(4, 10)[-1] == "simulate: 4 of 4 requests"
    assert said_of(4, 10)[0] == "simulate: 1 of 4 requests, about 30 s left"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (89, "89 s"), (600, "10 min"), (7200, "2.0 h")]
)
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_of_the_first_few_percent_nothing_is_foretold():
    lines = said_of(100, 3.5)
    assert lines[0] == "simulate: 1 of 100 requests"
    assert lines[1].startswith("simulate: 4 of 100 requests, about ")


def test_what_is_counted_inside_another_count_is_not_said():
    now, lines = [0.0], []

    def inner():
        with Progress("inner", 3, "steps", clock=lambda: now[0]) as bar:
            for _ in range(3):
                now[0] += 60
                bar.advance()

    with lines_to(lines.append):
        for _ in counted(range(2), "outer", 2, "runs"):
            inner()
        inner()
    assert [line.partition(":")[0] for line in lines] == ["inner", "inner", "inner"]


def test_of_many_short_works_one_is_told_now_and_then(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_say", [])  # this session's own
    for since, expected in ((PACE_S + 1, 1), (0.0, 0)):
        monkeypatch.setattr(progress, "_heard", [progress.time.monotonic() - since])
        for _ in range(5):
            assert list(ticked(range(3), "read", 3, "files")) == [0, 1, 2]
        said = capsys.readouterr().err.splitlines()
        assert [line.partition(",")[0] for line in said] == [
            "gpusim: read: 1 of 3 files"
        ] * expected


def test_work_that_lasts_says_less_often():
    lines = said_of(1000, 3.6)  # an hour
    assert 60 <= len(lines) <= 100


def test_a_bar_has_room_for_its_numbers(monkeypatch):
    monkeypatch.setattr(progress, "_say", [])  # this session's own
    monkeypatch.setattr(progress.sys, "stderr", Terminal())
    monkeypatch.setenv("COLUMNS", "80")
    now = [0.0]
    name = "read a-file-of-a-rather-long-name.jsonl"
    with Progress(name, 100_000, "requests", clock=lambda: now[0]) as bar:
        now[0] = 10.0
        bar.advance(6464)
    assert "6464/100000" in progress.sys.stderr.text
    assert "read a-file…g-name.jsonl" in progress.sys.stderr.text


class Terminal:
    """A standard error that says it is a terminal."""

    def __init__(self):
        self.text = ""

    def isatty(self):
        return True

    def write(self, text):
        self.text += text

    def flush(self):
        pass


def test_where_a_thread_would_disturb_there_are_lines_on_a_terminal_too(monkeypatch):
    monkeypatch.setattr(progress, "_say", [])  # this session's own
    monkeypatch.setattr(progress.sys, "stderr", Terminal())
    now = [0.0]
    with Progress("measure", 2, "requests", bar=False, clock=lambda: now[0]) as bar:
        now[0] = 10.0
        bar.advance()
    assert progress.sys.stderr.text == "gpusim: measure: 1 of 2 requests, about 10 s left\n"


@pytest.fixture
def said(monkeypatch):
    """What is said, at once and always, that else is said after seconds."""
    monkeypatch.setattr(progress, "QUIET_S", 0.0)
    monkeypatch.setattr(progress, "PACE_S", 0.0)
    lines = []
    with lines_to(lines.append):
        yield lines


@pytest.mark.parametrize("name", ["trace.csv", "trace.csv.gz"])
def test_reading_a_trace_says_how_far_it_is(said, tmp_path, monkeypatch, name):
    monkeypatch.setattr(progress, "PACE_S", 0.02)
    draw = random.Random(0).getrandbits
    rows = "".join(f"{i},{draw(128)},{10 + i % 7},5\n" for i in range(70_000))
    path = tmp_path / name
    with (gzip.open if name.endswith(".gz") else open)(path, "wt") as stream:
        stream.write("arrived_at,padding,num_prefill_tokens,num_decode_tokens\n" + rows)
    assert main(["workload", "import", "vidur", str(path), "--out", str(tmp_path / "w")]) == 0
    whole = path.stat().st_size >> 20
    assert any(line.startswith(f"read {name}: 1 of {whole} MiB") for line in said)


def test_an_import_says_how_far_reading_and_writing_are(said, tmp_path):
    bench = Path(__file__).parents[1] / "examples" / "quickstart" / "bench-1.json"
    assert main(["import-run", "vllm-bench", str(bench), "--out", str(tmp_path / "run")]) == 0
    assert any(line.startswith("read bench-1.json: 1 of ") for line in said)
    assert any(line.startswith("write token times: 1 of ") for line in said)


@pytest.mark.parametrize("name", ["request_metrics.csv", "request_metrics.csv.gz"])
def test_reading_a_table_says_how_far_it_is(said, tmp_path, monkeypatch, name):
    path = tmp_path / name
    draw = random.Random(0).getrandbits
    rows = "".join(f"{i},{draw(128)}\n" for i in range(70_000))
    with (gzip.open if name.endswith(".gz") else open)(path, "wt") as stream:
        stream.write("request_id,padding\n" + rows)
    assert len(read_table(path, required=["request_id"], integers=["request_id"])) == 70_000
    whole = path.stat().st_size >> 20
    assert any(line.startswith(f"read {name}: 1 of {whole} MiB") for line in said)


def test_of_an_unknown_number_no_end_is_foretold(said):
    assert list(ticked(iter("ab"), "write steps", 0, "steps")) == ["a", "b"]
    assert said == ["write steps: 1 steps", "write steps: 2 steps"]


def test_comparing_and_drawing_say_how_far_they_are(said, tmp_path):
    recording = Path(__file__).parents[1] / "benchmarks" / "recordings" / "qwen3-0.6b-cpu-poisson"
    runs = [str(recording / "real" / number) for number in ("1", "2")]
    main(["compare", *runs, "--out", str(tmp_path / "comparison")])
    main(["timeline", *runs, "--out", str(tmp_path / "timeline.json")])
    for what in ("check: 1 of ", "draw: 1 of ", "write 1: 1 of ", "write 2: 24 of 24 requests"):
        assert any(line.startswith(what) for line in said), what


def test_a_large_document_is_announced(said, tmp_path, monkeypatch):
    monkeypatch.setattr("pytest_gpusim.json_documents._LONG", 1 << 20)
    path = tmp_path / "result.json"
    path.write_text(f'["{"a" * (1 << 20)}"]')
    assert len(read_json(path)) == 1
    assert "read result.json: 1 MiB of JSON in one piece" in said
