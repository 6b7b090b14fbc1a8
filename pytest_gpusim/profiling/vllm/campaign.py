"""Measuring shapes in interleaved passes; what was measured survives a kill."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pytest_gpusim.artifacts import DEFAULT_ROOT, digest_json
from pytest_gpusim.profiling.vllm.grid import Shape
from pytest_gpusim.vllm_runtime import EngineProcess

STATE_ROOT = DEFAULT_ROOT / "profiling_state"
_REPORT_EVERY_S = 15.0
_DISTURBED = 0.04
_AGAIN = 2  # times that a disturbed shape is measured once more; in all, a third of the shapes


@dataclass(frozen=True)
class Sample:
    """One measured step. Times in ns; ``operators`` of all layers together, empty without hooks."""

    shape: Shape
    number: int  # the pass
    wall_ns: int
    decode_context: float
    operators: dict[str, int]


class Campaign:
    """Passes over shapes on one engine, kept in a file by the digest of what is measured.

    Args:
        identity: JSON values that tell one measurement from another (model, settings, device…).
        shapes: What a pass holds.
        passes: How many.
        root: Where the file is.
    """

    def __init__(
        self, identity: Any, shapes: Sequence[Shape], passes: int, root: Path = STATE_ROOT
    ) -> None:
        self.shapes, self.passes = list(shapes), passes
        key = digest_json([identity, [asdict(shape) for shape in shapes]])
        self.path = root / f"{key[:16]}.jsonl"
        self._done: dict[tuple[int, int], list[Sample]] = {}
        self._read()

    @property
    def measured(self) -> int:
        """Shapes that an earlier, interrupted campaign has measured."""
        return len([key for key in self._done if key[0] < self.passes])

    def samples(self) -> list[Sample]:
        """Everything that was measured."""
        return [sample for key in sorted(self._done) for sample in self._done[key]]

    def run(self, engine: EngineProcess, *, hooks: bool, say: Callable[[str], None]) -> None:
        """Measure what is missing."""
        missing = [place for place in self._order() if place not in self._done]
        if not missing:
            return
        if self.measured:
            say(f"going on after {self.measured} of {self.passes * len(self.shapes)} measurements")
        costs: dict[int, float] = {}
        first = [Shape(((32, 0),), 0, 0), self.shapes[0], max(self.shapes, key=_size)]
        for shape in first:
            begun = time.monotonic()
            engine.ask(shape.command(hooks))
            costs[_size(shape)] = time.monotonic() - begun
        say(f"{len(missing)} measurements, about {_minutes(_estimate(costs, missing, self))}")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        begun = reported = time.monotonic()
        retries = len(missing) // 3
        with self.path.open("a", encoding="utf-8") as stream:
            for count, (number, index) in enumerate(missing, start=1):
                rows, again = self._measure(engine, self.shapes[index], hooks, retries)
                retries -= again
                stream.write(json.dumps({"pass": number, "shape": index, "rows": rows}) + "\n")
                stream.flush()
                self._take(number, index, rows)
                now = time.monotonic()
                if now - reported > _REPORT_EVERY_S:
                    reported = now
                    left = (now - begun) / count * (len(missing) - count)
                    say(f"pass {number + 1} of {self.passes}, {count} of {len(missing)}, "
                        f"{_minutes(left)} left")  # fmt: skip

    def _measure(
        self, engine: EngineProcess, shape: Shape, hooks: bool, retries: int
    ) -> tuple[list[dict[str, Any]], int]:
        """The rows of a shape, and how often it was measured again to be left in peace."""
        best = engine.ask(shape.command(hooks))["rows"]
        again = 0
        # Spinning threads and a device's queue hide a lost core: only one thread tells.
        while (
            engine.engine["threads"] == 1
            and _disturbance(best) > _DISTURBED
            and again < min(_AGAIN, retries)
        ):
            again += 1
            other = engine.ask(shape.command(hooks))["rows"]
            best = min(best, other, key=_disturbance)
        return best, again

    def forget(self) -> None:
        """The bundle is written: nothing to go on with."""
        self.path.unlink(missing_ok=True)

    def _order(self) -> Iterator[tuple[int, int]]:
        """Each pass in another order, so that a drift of the machine does not look like a shape."""
        for number in range(self.passes):
            places = list(range(len(self.shapes)))
            random.Random(number).shuffle(places)
            yield from ((number, place) for place in places)

    def _take(self, number: int, index: int, rows: Sequence[dict[str, Any]]) -> None:
        self._done[number, index] = [
            Sample(
                self.shapes[index],
                number,
                row["wall_ns"],
                sum(row["decodes"]) / len(row["decodes"]) if row["decodes"] else 0.0,
                row["operators"],
            )
            for row in rows
        ]

    def _read(self) -> None:
        if not self.path.exists():
            return
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
                self._take(entry["pass"], entry["shape"], entry["rows"])
            except (ValueError, KeyError, IndexError):
                return  # the line that a kill cut short


def say(text: str) -> None:
    """Progress, on standard error."""
    print(f"gpusim profile vllm: {text}", file=sys.stderr, flush=True)


def _disturbance(rows: Sequence[dict[str, Any]]) -> float:
    """The share of the steps' time in which the process did not compute: others had its core."""
    wall = sum(row["wall_ns"] for row in rows)
    return 1 - sum(row["cpu_ns"] for row in rows) / wall if wall else 0.0


def _size(shape: Shape) -> int:
    return shape.num_tokens


def _estimate(
    costs: dict[int, float], missing: Sequence[tuple[int, int]], campaign: Campaign
) -> float:
    """Seconds: time per shape taken as linear in its tokens."""
    sizes = sorted(costs)
    low, high = sizes[0], sizes[-1]
    slope = (costs[high] - costs[low]) / (high - low) if high > low else 0.0
    total = 0.0
    for _, index in missing:
        shape = campaign.shapes[index]
        step = max(costs[low] / 2, costs[low] + slope * (shape.num_tokens - low))
        settling = costs[low] if shape.num_decodes else 0.0
        total += step * shape.steps + settling
    return total


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"
