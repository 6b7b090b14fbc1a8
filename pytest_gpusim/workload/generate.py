"""Workloads from a seed: when requests arrive, and how long they are.

Only ``random.Random`` is used: its stream is the same on every machine and Python version.
"""

from __future__ import annotations

import csv
import random
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, get_args

from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.limits import LARGEST, REQUEST_TOKENS, REQUESTS
from pytest_gpusim.texts import open_text
from pytest_gpusim.workload.arrivals import arrival_gaps
from pytest_gpusim.workload.load import Load, SessionTurn
from pytest_gpusim.workload.prompts import Prompt, unique_prompts
from pytest_gpusim.workload.tokenizer import exact_texts
from pytest_gpusim.workload.trace import WorkloadRequest
from pytest_gpusim.workload.writer import write_workload

Arrivals = Literal["spaced", "poisson", "burst", "fixed", "closed"]
ARRIVALS: tuple[str, ...] = get_args(Arrivals)
RampUp = Literal["linear", "exponential"]
RAMP_UPS: tuple[str, ...] = get_args(RampUp)
_LONGEST_THINK_TIME_S = 1e6


@dataclass(frozen=True)
class Lengths:
    """How many tokens: ``low`` = ``high`` for a fixed length, else uniform over both inclusive."""

    low: int
    high: int

    @classmethod
    def parse(cls, text: str, option: str) -> Lengths:
        """Read ``N`` or ``MIN:MAX``."""
        low, _, high = text.partition(":")
        try:
            lengths = cls(int(low), int(high or low))
        except ValueError:
            lengths = cls(0, 0)
        if not 1 <= lengths.low <= lengths.high:
            raise UsageError(f"{option} {text}: expected N or MIN:MAX, 1 <= MIN <= MAX")
        return lengths


@dataclass(frozen=True)
class Seconds:
    """How long: ``low`` = ``high`` for a fixed time, else uniform over both."""

    low: float
    high: float

    @classmethod
    def parse(cls, text: str, option: str) -> Seconds:
        """Read ``S`` or ``MIN:MAX``."""
        low, _, high = text.partition(":")
        try:
            seconds = cls(float(low), float(high or low))
        except ValueError:
            seconds = cls(1.0, 0.0)
        if not 0 <= seconds.low <= seconds.high <= _LONGEST_THINK_TIME_S:
            raise UsageError(f"{option} {text}: expected S or MIN:MAX, in seconds from 0 on")
        return seconds


@dataclass(frozen=True)
class WorkloadSpec:
    """A workload to generate.

    Attributes:
        arrivals: ``spaced`` (a pause after each request that grows with its length, so that none
            meets another), ``poisson`` (exponential gaps), ``burst`` (``burst_size`` at once),
            ``fixed`` (every 1/rate seconds), or ``closed`` (``concurrency`` clients, each of which
            sends its next request when its last is done; with a rate, no faster than ``poisson``).
        requests: Number of requests; with ``turns``, number of turns.
        rate: Mean number of requests per second; with ``turns``, of first turns.
        seed: The same seed gives the same bytes.
        prefill: Prompt tokens; with ``turns``, what each turn adds to the context.
        decode: Output tokens, the first one included.
        burst_size: Requests of a burst.
        lengths_from: A CSV with ``num_prefill_tokens`` and ``num_decode_tokens``, read in order.
        tokenizer: A local tokenizer that makes text prompts; else prompts are token ids.
        model: A model's name, for the metadata.
        concurrency: At most so many requests in flight, whatever the arrivals.
        turns: Turns of each conversation; 1: none follow.
        think_time: Seconds from an answer to the next turn.
        burstiness: As in ``vllm bench serve``: ``poisson`` gaps follow a gamma distribution of
            this shape (1: Poisson's, less: more uneven).
        ramp_up: As there: the rate changes over all requests to ``ramp_up_to``, by equal steps
            (``linear``) or ratios (``exponential``).
        ramp_up_to: Requests per second at the end of the ramp.
    """

    arrivals: Arrivals
    requests: int
    rate: float | None
    seed: int
    prefill: Lengths = Lengths(32, 256)
    decode: Lengths = Lengths(16, 48)
    burst_size: int = 8
    lengths_from: Path | None = None
    tokenizer: str | None = None
    model: str | None = None
    concurrency: int | None = None
    turns: Lengths = Lengths(1, 1)
    think_time: Seconds = Seconds(0.0, 0.0)
    burstiness: float | None = None
    ramp_up: RampUp | None = None
    ramp_up_to: float | None = None

    @property
    def short_name(self) -> str:
        """What it is, in a word: ``poisson``, ``poisson-7`` (its seed), ``closed-c4``."""
        parts: list[str] = [self.arrivals]
        if self.concurrency is not None:
            parts.append(f"c{self.concurrency}")
        if self.turns.high > 1:
            parts.append("turns")
        return "-".join([*parts, *([str(self.seed)] if self.seed else [])])

    def check(self) -> None:
        """Raise `UsageError` for values that make no workload."""
        if self.arrivals not in ARRIVALS:
            raise UsageError(f"--arrivals {self.arrivals}: known are {', '.join(ARRIVALS)}")
        counts: dict[str, Any] = {  # a grid's file and a test may hold anything
            "--requests": self.requests,
            "--seed": self.seed,
            "--concurrency": self.concurrency,
            "--burst-size": self.burst_size,
        }
        for option, count in counts.items():
            if count is not None and (isinstance(count, bool) or not isinstance(count, Integral)):
                raise UsageError(f"{option} {count}: expected a whole number")
        rates = {
            "--rate": self.rate,
            "--burstiness": self.burstiness,
            "--ramp-up-to": self.ramp_up_to,
        }
        for option, rate in rates.items():
            if isinstance(rate, bool):
                raise UsageError(f"{option} {rate}: expected a number")
        if self.requests < 1:
            raise UsageError(f"--requests {self.requests}: expected at least 1")
        REQUESTS.check_option("--requests", self.requests)
        REQUEST_TOKENS.check_option("--prefill", self.prefill.high)
        REQUEST_TOKENS.check_option("--decode", self.decode.high)
        if self.arrivals == "closed" and self.concurrency is None:
            raise UsageError("--arrivals closed: give --concurrency N, the number of clients")
        if self.rate is None and self.arrivals != "closed":
            raise UsageError(f"--arrivals {self.arrivals}: give --rate R, requests per second")
        if self.rate is not None and not 0 < self.rate < LARGEST:
            raise UsageError(
                f"--rate {self.rate}: expected requests per second, above 0; for all at once give "
                "--arrivals burst --burst-size N, or --arrivals closed"
            )
        self._check_shape()
        if self.concurrency is not None and self.concurrency < 1:
            raise UsageError(f"--concurrency {self.concurrency}: expected at least 1")
        if self.turns.high > 1 and self.tokenizer is not None:
            raise UsageError("--turns: conversations are made of token ids, leave --tokenizer out")
        for option, lengths in (
            ("--prefill", self.prefill),
            ("--decode", self.decode),
            ("--turns", self.turns),
        ):
            if not 1 <= lengths.low <= lengths.high:
                raise UsageError(f"{option} {lengths.low}:{lengths.high}: expected 1 <= MIN <= MAX")
        if self.burst_size < 1:
            raise UsageError(f"--burst-size {self.burst_size}: expected at least 1")

    def _check_shape(self) -> None:
        """What is said of Poisson's gaps and of a rate that changes."""
        if self.burstiness is not None and not 0 < self.burstiness < LARGEST:
            raise UsageError(f"--burstiness {self.burstiness}: expected a number above 0")
        if (self.ramp_up is None) != (self.ramp_up_to is None):
            raise UsageError("--ramp-up and --ramp-up-to go together")
        if self.ramp_up is not None and self.ramp_up not in RAMP_UPS:
            raise UsageError(f"--ramp-up {self.ramp_up}: known are {', '.join(RAMP_UPS)}")
        if self.ramp_up_to is not None and not 0 < self.ramp_up_to < LARGEST:
            raise UsageError(f"--ramp-up-to {self.ramp_up_to}: expected requests per second")
        shaped = {"--burstiness": self.burstiness, "--ramp-up": self.ramp_up}
        for option, value in shaped.items():
            if value is not None and (self.arrivals != "poisson" or self.rate is None):
                raise UsageError(f"{option}: is for --arrivals poisson, not {self.arrivals}")


def generate_workload(spec: WorkloadSpec, out: Path) -> None:
    """Write the workload of ``spec`` at ``out``; the same spec gives the same bytes everywhere."""
    spec.check()
    lengths = _lengths(spec)
    sessions = _sessions(spec)
    starts = [n for n in range(spec.requests) if n not in sessions or not sessions[n].turn]
    gaps = dict(zip(starts, arrival_gaps(spec, [lengths[n] for n in starts]), strict=True))
    requests, clock = [], 0
    for number, (prefill, decode) in enumerate(lengths):
        clock += gaps.get(number, 0)
        requests.append(WorkloadRequest(number, number, prefill, decode, clock))
    prompts = unique_prompts([prefill for prefill, _ in lengths], spec.seed)
    if spec.tokenizer is not None:
        texts = exact_texts(spec.tokenizer, [prefill for prefill, _ in lengths], spec.seed)
        prompts = {number: Prompt(number, text=text) for number, text in enumerate(texts)}
    elif sessions:
        requests, prompts = _in_context(requests, prompts, sessions)
    generator: dict[str, Any] = {
        "arrivals": spec.arrivals,
        "requests": spec.requests,
        "rate": spec.rate,
        "prefill": [spec.prefill.low, spec.prefill.high],
        "decode": [spec.decode.low, spec.decode.high],
        "burst_size": spec.burst_size if spec.arrivals == "burst" else None,
        "lengths_from": spec.lengths_from.name if spec.lengths_from else None,
    }
    for name in ("burstiness", "ramp_up", "ramp_up_to"):
        if (value := getattr(spec, name)) is not None:
            generator[name] = value
    if sessions:
        generator["turns"] = [spec.turns.low, spec.turns.high]
        generator["think_time"] = [spec.think_time.low, spec.think_time.high]
    write_workload(
        out,
        requests,
        prompts,
        name=spec.arrivals,
        seed=spec.seed,
        model=spec.model,
        tokenizer_ref=spec.tokenizer,
        generator=generator,
        load=Load(spec.concurrency),
        sessions=sessions,
    )


def _sessions(spec: WorkloadSpec) -> dict[int, SessionTurn]:
    """Conversations one after the other, until there are requests enough; empty for single turns.

    The last one may be cut short.
    """
    if spec.turns.high == 1:
        return {}
    stream = random.Random(f"sessions:{spec.seed}")
    sessions: dict[int, SessionTurn] = {}
    session = 0
    while len(sessions) < spec.requests:
        for turn in range(stream.randint(spec.turns.low, spec.turns.high)):
            think = stream.uniform(spec.think_time.low, spec.think_time.high) if turn else 0.0
            if len(sessions) < spec.requests:
                sessions[len(sessions)] = SessionTurn(session, turn, round(think * 1e9))
        session += 1
    return sessions


def _in_context(
    requests: list[WorkloadRequest],
    prompts: dict[int, Prompt],
    sessions: dict[int, SessionTurn],
) -> tuple[list[WorkloadRequest], dict[int, Prompt]]:
    """Requests and prompts where each later turn begins with all that was said before it."""
    placed: list[WorkloadRequest] = []
    for request in requests:
        number = request.request_id
        if sessions[number].turn:
            before = placed[-1]
            context = before.num_prefill_tokens + before.num_decode_tokens
            request = request._replace(num_prefill_tokens=context + request.num_prefill_tokens)
            prompts[number] = replace(
                prompts[number],
                num_tokens=request.num_prefill_tokens,
                prefix_of=before.prompt_id,
                prefix_tokens=context,
            )
        placed.append(request)
    return placed, prompts


def _lengths(spec: WorkloadSpec) -> list[tuple[int, int]]:
    if spec.lengths_from is not None:
        return _traced_lengths(spec.lengths_from, spec.requests)
    stream = random.Random(f"lengths:{spec.seed}")
    return [
        (
            stream.randint(spec.prefill.low, spec.prefill.high),
            stream.randint(spec.decode.low, spec.decode.high),
        )
        for _ in range(spec.requests)
    ]


def _traced_lengths(path: Path, count: int) -> list[tuple[int, int]]:
    columns = ("num_prefill_tokens", "num_decode_tokens")
    found: list[tuple[int, int]] = []
    with open_text(path) as stream:
        reader = csv.DictReader(stream)
        for column in columns:
            found_times = list(reader.fieldnames or ()).count(column)
            if found_times != 1:
                said = "is there twice" if found_times else "is missing"
                raise InputError(path, f"column {column}", said)
        for row in reader:
            if len(found) == count:
                break
            for column in columns:
                cell = row[column] or ""
                if not cell.isdecimal() or len(cell) > 18 or int(cell) < 1:
                    raise InputError(
                        path,
                        f"line {reader.line_num}, column {column}",
                        f"expected a positive whole number, found {row[column]!r}",
                    )
            found.append((int(row[columns[0]]), int(row[columns[1]])))
    if len(found) < count:
        raise InputError(path, "", f"has {len(found)} rows, {count} requests were asked for")
    return found
