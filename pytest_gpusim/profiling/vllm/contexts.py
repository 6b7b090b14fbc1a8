"""Attention of chunks and contexts that were not measured, from those that were.

Measuring every chunk at several contexts would double a profile's time. What a context adds to a
chunk is close to proportional to both: each new token attends to each cached one.
"""

from __future__ import annotations

from collections.abc import Mapping

from pytest_gpusim.serving.interpolation import ragged_grid


def rates_of(times: Mapping[tuple[int, ...], float]) -> dict[int, float]:
    """Per measured chunk: time that a cached token adds for each of its tokens.

    Args:
        times: (chunk, context) to time.
    """
    rates = {}
    for chunk in {chunk for chunk, _ in times}:
        longest = max(context for size, context in times if size == chunk)
        if longest and (chunk, 0) in times:
            added = times[chunk, longest] - times[chunk, 0]
            rates[chunk] = max(0.0, added) / (chunk * longest)
    return rates


def filled(
    times: Mapping[tuple[int, ...], float], rates: Mapping[int, float], longest: int
) -> dict[tuple[int, ...], float]:
    """The times, and for each chunk one more at the longest context that any chunk can have.

    So the grid has no notches: between a short chunk with a long context and a long chunk, which
    can have none, there is something to interpolate to.

    Args:
        times: (chunk, context, …) to time; what follows is kept as it is.
        rates: From `rates_of`; between its chunks they are interpolated.
        longest: The context at which the grid ends, in tokens.
    """
    import numpy as np

    result = dict(times)
    if not rates:
        return result
    chunks = sorted(rates)
    furthest: dict[tuple[int, ...], int] = {}
    for chunk, context, *rest in times:
        key = (chunk, *rest)
        furthest[key] = max(furthest.get(key, 0), context)
    for (chunk, *rest), context in furthest.items():
        if longest > context:
            rate = float(np.interp(chunk, chunks, [rates[size] for size in chunks]))
            known = times[(chunk, context, *rest)]
            result[(chunk, longest, *rest)] = known + rate * chunk * (longest - context)
    return result


def closed(
    both: Mapping[tuple[int, ...], float], alone: Mapping[tuple[int, ...], float], longest: int
) -> dict[tuple[int, ...], float]:
    """The times, and those of the largest chunk once more at the longest that leaves a decode room.

    A chunk beside many decodes ends where the step's budget does, beside one decode later. What the
    tokens between cost, they cost without decodes.

    Args:
        both: (chunk, context, decodes, their context) to time.
        alone: (chunk, context) to time without decodes.
        longest: The longest chunk beside a decode; no longer than the longest one without.
    """
    result = dict(both)
    longest = min([longest, max((chunk for chunk, *_ in alone), default=0)])
    largest = max((chunk for chunk, *_ in both), default=longest)
    if largest < longest:
        price = ragged_grid(list(alone), list(alone.values()))
        for (chunk, context, *decodes), time in both.items():
            if chunk == largest:
                added = price.at(longest, context)[0] - price.at(chunk, context)[0]
                result[(longest, context, *decodes)] = time + added
    return result


def levelled(times: Mapping[tuple[int, ...], float]) -> dict[tuple[int, ...], float]:
    """The times, and those of every batch up to the longest context of any.

    Large batches end where the KV cache does. A batch between a large and a small one has contexts
    that the large one cannot have, and they are to be interpolated to something: what a decode
    takes grows in proportion to its context.

    Args:
        times: (…, decodes, their context) to time.
    """
    longest = max((context for *_, context in times), default=0)
    contexts_of: dict[tuple[int, ...], list[int]] = {}
    for place in times:
        contexts_of.setdefault(place[:-1], []).append(place[-1])
    result = dict(times)
    for batch, contexts in contexts_of.items():
        before, last = sorted(contexts)[-2:] if len(contexts) > 1 else (longest, longest)
        if last < longest:
            added = max(0.0, times[(*batch, last)] - times[(*batch, before)]) / (last - before)
            result[(*batch, longest)] = times[(*batch, last)] + added * (longest - last)
    return result
