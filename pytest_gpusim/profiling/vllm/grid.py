"""Which step shapes a profile measures, for given engine settings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_STEPS_PER_DECODE_SHAPE = 2
_PREFILLS = (1, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384)
_SEQUENCES = (1, 2, 4, 8, 12, 16, 24, 32)
# Matrix products of a few rows take other kernels from one row to the next: a step of three
# sequences can take less than one of two. Their attention is as smooth as that of the others.
_SEQUENCES_BETWEEN = (3, 5, 6, 7, 9, 10, 14, 18, 20, 28)
_MIXED_CHUNKS = (32, 128, 512, 2048)
_GROWTH = 1.5  # beyond the last of these


@dataclass(frozen=True)
class Shape:
    """A step: (tokens, context) of each prefill chunk, and equal decodes.

    ``decode_context`` is the first step's; each further step has one token more.
    """

    prefills: tuple[tuple[int, int], ...]
    num_decodes: int
    decode_context: int

    @property
    def steps(self) -> int:
        """How many steps of it are measured in a row."""
        return 1 if self.prefills else _STEPS_PER_DECODE_SHAPE

    @property
    def num_tokens(self) -> int:
        """Tokens of one step."""
        return sum(tokens for tokens, _ in self.prefills) + self.num_decodes

    def blocks(self, block_size: int) -> int:
        """KV blocks that it needs."""
        ends = [tokens + context for tokens, context in self.prefills]
        ends += [self.decode_context + self.steps + 2] * self.num_decodes
        return sum(math.ceil(end / block_size) for end in ends)

    def command(self, hooks: bool) -> dict[str, Any]:
        """For `pytest_gpusim.vllm_runtime.shapes.run_shape`."""
        return {
            "command": "shape",
            "prefills": self.prefills,
            "decodes": [self.decode_context] * self.num_decodes,
            "steps": self.steps,
            "hooks": hooks,
        }


def shapes_of(engine: Mapping[str, Any], *, quick: bool = False) -> list[Shape]:
    """The shapes that cover an engine's settings.

    Args:
        engine: Resolved settings: limits of a step, of a context, and KV blocks.
        quick: Fewer of them: enough to try things out.
    """
    budget, seats = int(engine["max_num_batched_tokens"]), int(engine["max_num_seqs"])
    block, blocks = int(engine["block_size"]), int(engine["num_gpu_blocks"]) - 1
    # A prompt leaves room for a token, a decode for the steps that are measured of it.
    longest = int(engine["max_model_len"]) - _STEPS_PER_DECODE_SHAPE - 3
    room = _Room(longest, block, blocks, thin=quick)
    wanted = dict.fromkeys(
        [
            *_prefills(budget, seats, room),
            *_decodes(min(seats, budget), room),
            *_mixed(budget, seats, room),
        ]
    )
    return [shape for shape in wanted if shape.blocks(block) <= blocks]


@dataclass(frozen=True)
class _Room:
    """Where contexts fit: up to ``longest`` tokens each, in ``blocks`` of ``block`` together."""

    longest: int
    block: int
    blocks: int
    thin: bool

    def contexts(self, tokens: int = 1, sequences: int = 1, beside: int = 0) -> list[int]:
        """Multiples of the block size from the largest down, each a third of the one before.

        Args:
            tokens: What each sequence adds to its context.
            sequences: How many there are of these.
            beside: Tokens of another one.
        """
        left = self.blocks - math.ceil(beside / self.block)
        share = left // sequences * self.block - _STEPS_PER_DECODE_SHAPE - 3
        top = min(self.longest, share) - tokens
        found = [top // self.block * self.block]
        while found[-1] >= 2 * self.block and not (self.thin and len(found) == 2):
            found.append(found[-1] // (8 if self.thin else 3) // self.block * self.block)
        return sorted({context for context in found if context >= 2 * self.block})


def _prefills(budget: int, seats: int, room: _Room) -> Iterator[Shape]:
    top = min(budget, room.longest)
    ladder = _up_to(top, _PREFILLS)
    for tokens in _thinned(ladder) if room.thin else ladder:
        yield Shape(((tokens, 0),), 0, 0)
    if top < budget <= 2 * top and seats > 1:  # a full step takes two prompts
        yield Shape(((budget - budget // 2, 0), (budget // 2, 0)), 0, 0)
    for tokens in _some(ladder, 2 if room.thin else 4, room.longest - 2 * room.block):
        for context in room.contexts(tokens):
            yield Shape(((tokens, context),), 0, 0)


def _decodes(seats: int, room: _Room) -> Iterator[Shape]:
    ladder = _up_to(seats, _SEQUENCES)
    for number in _thinned(ladder) if room.thin else ladder:
        for context in (0, *room.contexts(sequences=number)):
            yield Shape((), number, context + 1)
    for number in () if room.thin else _SEQUENCES_BETWEEN:
        if number < seats and room.contexts(sequences=number):
            yield Shape((), number, 2 * room.block + 1)


def _mixed(budget: int, seats: int, room: _Room) -> Iterator[Shape]:
    if seats < 2:
        return
    numbers = sorted({1, min(8, seats - 1), max(1, 3 * seats // 4)})
    top = min(budget - numbers[-1], room.longest)
    if top < 1:
        return
    chunks = [chunk for chunk in _MIXED_CHUNKS if chunk * _GROWTH < top] + [top]
    for tokens in sorted({chunks[0], chunks[-1]}) if room.thin else chunks:
        long = tokens > _MIXED_CHUNKS[1]
        # The ends close the grid; what lies between is close to linear.
        for number in numbers[::2] if long or room.thin else numbers:
            fitting = room.contexts(sequences=number, beside=tokens)
            for decode in sorted({0, *fitting[-1:]}):
                yield Shape(((tokens, 0),), number, decode + 1)


def _up_to(top: int, ladder: tuple[int, ...]) -> list[int]:
    """The ladder up to ``top``, which ends it; continued by about `_GROWTH` where it is short."""
    rungs = [rung for rung in ladder if rung < top]
    while rungs and rungs[-1] >= ladder[-1] and rungs[-1] * _GROWTH**2 < top:
        round_to = 2 ** (rungs[-1].bit_length() - 2)
        rungs.append(int(rungs[-1] * _GROWTH) // round_to * round_to)
    return [*rungs, top]


def _some(ladder: list[int], count: int, top: int) -> list[int]:
    """Of the rungs from 16 up to ``top``, ``count``, evenly."""
    usable = [rung for rung in ladder if 16 <= rung <= top] or ladder[:1]
    places = [round(i * (len(usable) - 1) / max(1, count - 1)) for i in range(count)]
    return sorted({usable[place] for place in places})


def _thinned(ladder: list[int]) -> list[int]:
    return sorted({*ladder[::2], ladder[-1]})
