"""Measuring shapes in interleaved passes; what was measured survives a kill."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pytest_gpusim.artifacts import DEFAULT_ROOT
from pytest_gpusim.json_documents import digest_json
from pytest_gpusim.limits import KV_BLOCKS
from pytest_gpusim.profiling.vllm.estimate import duration, from_first_steps
from pytest_gpusim.profiling.vllm.grid import Shape
from pytest_gpusim.vllm_runtime import EngineProcess

STATE_ROOT = DEFAULT_ROOT / "profiling_state"
_REPORT_EVERY_S = 15.0
_DISTURBED = 0.04
_FEWER_BLOCKS = 0.02  # shapes for so many KV blocks less are the engine's still
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

    The file begins with the KV blocks that the shapes were made for: a GPU engine may find a few
    more or less at each start, and going on needs the same shapes.

    Args:
        identity: JSON values that tell one measurement from another (model, settings, device…).
        passes: How often each shape is measured.
        root: Where the file is.
    """

    def __init__(self, identity: Any, passes: int, root: Path = STATE_ROOT) -> None:
        self.passes = passes
        self.path = root / f"{digest_json(identity)[:16]}.jsonl"
        self.shapes: list[Shape] = []
        self._blocks: int | None = None
        self._done: dict[tuple[int, Shape], list[Sample]] = {}
        self._whole = 0  # bytes of the file up to the end of its last good line
        self._read()

    def plan(self, blocks: int, shapes_for: Callable[[int], Sequence[Shape]]) -> None:
        """Settle the shapes: those of an interrupted campaign where they fit the engine.

        Args:
            blocks: KV blocks that the engine has now.
            shapes_for: The shapes for a number of blocks.
        """
        before = self._blocks
        if before is None or not 1 - _FEWER_BLOCKS <= before / blocks <= 1:
            self._blocks = blocks
        assert self._blocks is not None
        self.shapes = list(shapes_for(self._blocks))

    @property
    def measured(self) -> int:
        """Measurements that an earlier, interrupted campaign has made."""
        return sum(place in self._done for place in self._order())

    def samples(self) -> list[Sample]:
        """Everything that was measured."""
        return [sample for place in self._order() for sample in self._done.get(place, [])]

    def run(
        self, engine: EngineProcess, *, hooks: bool, say: Callable[[str], None], again: bool = False
    ) -> None:
        """Measure what is missing.

        Args:
            engine: It forms the batches.
            hooks: Time operators too.
            say: Takes lines for the user.
            again: The same shapes follow on another engine, which is said with the estimate.
        """
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
        seconds = from_first_steps(costs, [shape for _, shape in missing])
        say(f"{len(missing)} measurements, about {duration(seconds)}")
        if again:
            whole = seconds + from_first_steps(costs, self.shapes) * self.passes
            say(f"then the engine as asked for: in all up to {duration(whole)}, and its start")
        begun = reported = time.monotonic()
        retries = len(missing) // 3
        with self._append() as stream:
            for count, (number, shape) in enumerate(missing, start=1):
                rows, more = self._measure(engine, shape, hooks, retries)
                retries -= more
                _write(stream, {"pass": number, "shape": asdict(shape), "rows": rows})
                self._take(number, shape, rows)
                now = time.monotonic()
                if now - reported > _REPORT_EVERY_S:
                    reported = now
                    left = (now - begun) / count * (len(missing) - count)
                    say(f"pass {number + 1} of {self.passes}, {count} of {len(missing)}, "
                        f"{duration(left)} left")  # fmt: skip

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

    def _order(self) -> Iterator[tuple[int, Shape]]:
        """Each pass in another order, so that a drift of the machine does not look like a shape."""
        for number in range(self.passes):
            shapes = list(self.shapes)
            random.Random(number).shuffle(shapes)
            yield from ((number, shape) for shape in shapes)

    def _take(self, number: int, shape: Shape, rows: Sequence[dict[str, Any]]) -> None:
        self._done[number, shape] = [
            Sample(
                shape,
                number,
                int(row["wall_ns"]),
                sum(row["decodes"]) / len(row["decodes"]) if row["decodes"] else 0.0,
                {str(name): int(time_ns) for name, time_ns in row["operators"].items()},
            )
            for row in rows
        ]

    def _append(self) -> BinaryIO:
        """The file, cut to its last good line: what a kill left of the next would spoil more."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        stream = self.path.open("r+b")
        stream.truncate(self._whole)
        stream.seek(self._whole)
        _write(stream, {"num_gpu_blocks": self._blocks})
        return stream

    def _read(self) -> None:
        if not self.path.exists():
            return
        for line in self.path.read_bytes().splitlines(keepends=True):
            try:
                entry = json.loads(line.decode("utf-8"))
                if "num_gpu_blocks" in entry:
                    blocks = int(entry["num_gpu_blocks"])
                    if not 0 < blocks <= KV_BLOCKS.value:
                        return
                    self._blocks = blocks
                else:
                    self._take(int(entry["pass"]), _shape(entry["shape"]), entry["rows"])
            except (ValueError, KeyError, IndexError, TypeError, AttributeError, ArithmeticError,
                    RecursionError):  # fmt: skip
                return  # the line that a kill cut short
            if not line.endswith(b"\n"):
                return
            self._whole += len(line)


def _shape(entry: dict[str, Any]) -> Shape:
    prefills = tuple((int(tokens), int(context)) for tokens, context in entry["prefills"])
    return Shape(prefills, int(entry["num_decodes"]), int(entry["decode_context"]))


def _write(stream: BinaryIO, entry: dict[str, Any]) -> None:
    stream.write(json.dumps(entry).encode("utf-8") + b"\n")
    stream.flush()


def say(text: str) -> None:
    """Progress, on standard error."""
    print(f"gpusim profile vllm: {text}", file=sys.stderr, flush=True)


def _disturbance(rows: Sequence[dict[str, Any]]) -> float:
    """The share of the steps' time in which the process did not compute: others had its core."""
    wall = sum(row["wall_ns"] for row in rows)
    return 1 - sum(row["cpu_ns"] for row in rows) / wall if wall else 0.0


def _size(shape: Shape) -> int:
    return shape.num_tokens
