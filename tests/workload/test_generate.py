"""Generated workloads: the same bytes everywhere, the lengths and gaps that were asked for."""

from __future__ import annotations

import dataclasses
import json
import statistics
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_gpusim.errors import GpusimError, InputError, UsageError
from pytest_gpusim.workload import Workload, read_workload
from pytest_gpusim.workload.generate import ARRIVALS, Lengths, WorkloadSpec, generate_workload
from pytest_gpusim.workload.token_ids import token_ids
from pytest_gpusim.workload.tokenizer import load_tokenizer
from tests.workload.tokenizer import make_tokenizer

SPEC = WorkloadSpec("poisson", 50, 4.0, 7, Lengths(16, 200), Lengths(1, 40))
# Computed with CPython 3.11.7 and 3.12.1 on Linux; any other machine must agree.
DIGESTS = {
    "spaced": "4f0cd684fa33a4b2854e0a2b016d37951f46fbda7aecc25faddd48c9f6293d8f",
    "poisson": "b453a963d3ded9f1cabdd05558e1b58c61431c9415dde81d31706765941ade33",
    "burst": "4ff330786c1bfed662bdef457c8f6645386c2f9db1dbe091b7daab43b7e0751a",
    "fixed": "0b60c8b3df06563626a2b298d26c2e514daaa3404cc02308bf23929145b7c449",
}
FILES = ("trace_lengths.csv", "trace_intervals.csv", "prompts.jsonl")


def generate(out: Path, spec: WorkloadSpec, **changes: object) -> Workload:
    generate_workload(dataclasses.replace(spec, **changes), out)  # type: ignore[arg-type]
    return read_workload(out)


@pytest.mark.parametrize("arrivals", DIGESTS)
def test_the_same_seed_gives_the_same_bytes_everywhere(tmp_path: Path, arrivals: str) -> None:
    first = generate(tmp_path / "a", SPEC, arrivals=arrivals)
    second = generate(tmp_path / "b", SPEC, arrivals=arrivals)
    assert first.digest == DIGESTS[arrivals]
    for name in FILES:
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes()
    assert first.workload_id == f"{arrivals}-{DIGESTS[arrivals][:12]}"


@pytest.mark.parametrize("arrivals", ["spaced", "poisson"])
def test_another_seed_gives_another_workload(tmp_path: Path, arrivals: str) -> None:
    other = generate(tmp_path / "a", SPEC, arrivals=arrivals, seed=8)
    assert other.digest != DIGESTS[arrivals]


def test_poisson_arrivals_are_exponential_at_the_rate(tmp_path: Path) -> None:
    workload = generate(tmp_path / "a", SPEC, requests=20000, rate=8.0)
    times = [request.arrival_time_ns for request in workload.requests]
    gaps = [b - a for a, b in pairwise(times)]
    # Mean and standard deviation of an exponential are the same; 20,000 samples give 1%.
    assert statistics.mean(gaps) == pytest.approx(1e9 / 8, rel=0.03)
    assert statistics.stdev(gaps) == pytest.approx(1e9 / 8, rel=0.03)
    assert times[0] == 0


def gaps_of(tmp_path: Path, name: str, **changes: object) -> list[float]:
    """Seconds between 4,000 poisson arrivals at 10 a second."""
    workload = generate(tmp_path / name, SPEC, requests=4000, rate=10.0, **changes)
    times = [request.arrival_time_ns for request in workload.requests]
    return [(after - before) / 1e9 for before, after in pairwise(times)]


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_burstiness_is_the_shape_of_the_gaps(tmp_path: Path, burstiness: float) -> None:
    """A gamma distribution of shape k has a coefficient of variation of 1 / sqrt(k)."""
    gaps = gaps_of(tmp_path, "w", burstiness=burstiness)
    assert statistics.mean(gaps) == pytest.approx(0.1, rel=0.08)
    assert statistics.pstdev(gaps) / statistics.mean(gaps) == pytest.approx(
        burstiness**-0.5, rel=0.08
    )


@pytest.mark.parametrize(("ramp_up", "middle"), [("linear", 25.0), ("exponential", 20.0)])
def test_a_rate_ramps_up(tmp_path: Path, ramp_up: str, middle: float) -> None:
    gaps = gaps_of(tmp_path, "w", ramp_up=ramp_up, ramp_up_to=40.0)
    for place, rate in ((0, 10.0), (1800, middle), (3600, 40.0)):
        assert 1 / statistics.mean(gaps[place : place + 399]) == pytest.approx(rate, rel=0.2)
    plain = gaps_of(tmp_path, "p")
    assert gaps[0] == pytest.approx(plain[0], rel=0.01)  # the same draws, at another rate


def test_fixed_arrivals_are_equidistant(tmp_path: Path) -> None:
    workload = generate(tmp_path / "a", SPEC, arrivals="fixed", rate=4.0)
    assert [r.arrival_time_ns for r in workload.requests] == [250_000_000 * n for n in range(50)]


def test_a_burst_arrives_at_once_and_keeps_the_mean_rate(tmp_path: Path) -> None:
    workload = generate(tmp_path / "a", SPEC, arrivals="burst", burst_size=5, rate=10.0)
    times = [request.arrival_time_ns for request in workload.requests]
    assert times == [n // 5 * 500_000_000 for n in range(50)]


def test_spaced_requests_leave_longer_pauses_after_longer_requests(tmp_path: Path) -> None:
    workload = generate(tmp_path / "a", SPEC, arrivals="spaced", prefill=Lengths(32, 32))
    times = [request.arrival_time_ns for request in workload.requests]
    gaps = [b - a for a, b in pairwise(times)]
    work = [request.num_decode_tokens + 1 for request in workload.requests]
    for gap, each in zip(gaps, work, strict=False):
        assert gap == pytest.approx(250e6 * each / statistics.mean(work), abs=1)


def test_lengths_fixed_and_uniform(tmp_path: Path) -> None:
    fixed = generate(tmp_path / "a", SPEC, prefill=Lengths(64, 64), decode=Lengths(9, 9))
    assert {(r.num_prefill_tokens, r.num_decode_tokens) for r in fixed.requests} == {(64, 9)}
    uniform = generate(tmp_path / "b", SPEC, requests=2000, prefill=Lengths(3, 6))
    assert {request.num_prefill_tokens for request in uniform.requests} == {3, 4, 5, 6}


def test_traced_lengths(tmp_path: Path, trace_data: Path) -> None:
    path = trace_data / "arxiv_summarization_lengths.csv"
    workload = generate(tmp_path / "a", SPEC, lengths_from=path)
    found = [(r.num_prefill_tokens, r.num_decode_tokens) for r in workload.requests[:2]]
    assert found == [(3772, 54), (2015, 156)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_prefill_tokens\n1\n", "column num_decode_tokens: is missing"),
        ("num_prefill_tokens,num_decode_tokens\n5,6\n7,0\n", "line 3, column num_decode_tokens"),
        ("num_prefill_tokens,num_decode_tokens\n5,6\n-7,1\n", "line 3, column num_prefill_tokens"),
        ("num_prefill_tokens,num_decode_tokens\n5,6\n", "has 1 rows, 50 requests were asked for"),
    ],
)
def test_bad_traced_lengths(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "lengths.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        generate(tmp_path / "a", SPEC, lengths_from=path)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("special_tokens", [False, True])
def test_texts_have_exactly_the_wanted_number_of_tokens(
    tmp_path: Path, special_tokens: bool
) -> None:
    reference = make_tokenizer(tmp_path / "tokenizer", special_tokens=special_tokens)
    workload = generate(tmp_path / "a", SPEC, tokenizer=reference)
    tokenizer = load_tokenizer(reference)
    assert workload.prompts is not None
    for request in workload.requests:
        text = workload.prompts[request.prompt_id].text
        assert text is not None
        assert len(tokenizer.encode(text)) == request.num_prefill_tokens
    assert {len(ids) for ids in token_ids(workload, 100).values()} == {
        request.num_prefill_tokens for request in workload.requests
    }
    again = generate(tmp_path / "b", SPEC, tokenizer=reference)
    assert again.digest == workload.digest


def test_a_text_that_cannot_be_so_short_is_refused(tmp_path: Path) -> None:
    reference = make_tokenizer(tmp_path / "tokenizer", special_tokens=True)
    with pytest.raises(UsageError, match="found no text of exactly 1 tokens"):
        generate(tmp_path / "a", SPEC, tokenizer=reference, prefill=Lengths(1, 1))


def test_a_tokenizer_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such tokenizer"):
        generate(tmp_path / "a", SPEC, tokenizer=str(tmp_path / "absent"))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match=r"not a tokenizer.json"):
        generate(tmp_path / "a", SPEC, tokenizer=str(tmp_path))


def test_a_tokenizer_that_fails_at_a_text(tmp_path: Path) -> None:
    path = Path(make_tokenizer(tmp_path / "tokenizer")) / "tokenizer.json"
    document = json.loads(path.read_text())
    document["model"]["unk_token"] = ""
    document["pre_tokenizer"] = None
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=rf"{path}: fails at a text: WordLevel error"):
        generate(tmp_path / "a", SPEC, tokenizer=str(path))
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arrivals": "bursty"}, "--arrivals bursty: known are spaced, poisson, burst, fixed"),
        ({"requests": 0}, "--requests 0"),
        ({"requests": 2.0}, "--requests 2.0: expected a whole number"),
        ({"concurrency": 1.5}, "--concurrency 1.5: expected a whole number"),
        ({"burstiness": 0.0}, "--burstiness 0.0: expected a number above 0"),
        ({"burstiness": 2.0, "arrivals": "fixed"}, "--burstiness: is for --arrivals poisson"),
        ({"ramp_up": "linear"}, "--ramp-up and --ramp-up-to go together"),
        ({"ramp_up": "steep", "ramp_up_to": 1.0}, "--ramp-up steep: known are linear, exponential"),
        ({"ramp_up": "linear", "ramp_up_to": -1.0}, "--ramp-up-to -1.0: expected requests"),
        ({"rate": 0.0}, "--rate 0.0"),
        ({"rate": float("nan")}, "--rate nan"),
        ({"rate": float("inf")}, "--rate inf"),
        ({"burst_size": 0}, "--burst-size 0"),
        ({"prefill": Lengths(0, 4)}, "--prefill 0:4"),
        ({"decode": Lengths(5, 4)}, "--decode 5:4"),
    ],
)
def test_specs_that_make_no_workload(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        generate(tmp_path / "a", SPEC, **changes)


def test_lengths_are_parsed() -> None:
    assert Lengths.parse("7", "--prefill") == Lengths(7, 7)
    assert Lengths.parse("7:9", "--prefill") == Lengths(7, 9)
    for text in ("", "0", "9:7", "a", "1:2:3", "1.5", "-3"):
        with pytest.raises(UsageError, match=r"--prefill .*: expected N or MIN:MAX"):
            Lengths.parse(text, "--prefill")


def test_an_occupied_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "notes").touch()
    with pytest.raises(GpusimError, match="not empty") as caught:
        generate(tmp_path / "a", SPEC)
    assert caught.value.exit_code == 2


@given(
    arrivals=st.sampled_from(ARRIVALS),
    requests=st.integers(1, 30),
    rate=st.floats(1e-3, 1e6),
    seed=st.integers(0, 2**63),
    burst=st.integers(1, 9),
)
@settings(max_examples=40, deadline=None)
def test_any_spec_gives_a_workload_that_can_be_read(
    tmp_path_factory: pytest.TempPathFactory,
    arrivals: str,
    requests: int,
    rate: float,
    seed: int,
    burst: int,
) -> None:
    out = tmp_path_factory.mktemp("generated") / "w"
    workload = generate(
        out,
        SPEC,
        arrivals=arrivals,
        requests=requests,
        rate=rate,
        seed=seed,
        burst_size=burst,
        concurrency=burst,
    )
    times = [request.arrival_time_ns for request in workload.requests]
    assert len(times) == requests
    assert times == sorted(times)
    assert times[0] == 0
