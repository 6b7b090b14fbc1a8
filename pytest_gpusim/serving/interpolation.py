"""Interpolation between profiled points: linear along each axis, exact at the points.

Below the first point of an axis the value is that of the first point: a kernel has a floor. Above
the last one it goes on as between the last two, but never falls. Both are flagged, the latter from
2% beyond the last point on: that much further a line is no worse than between the points.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Protocol

Point = tuple[float, ...]
_SLACK = 1.02
# Of scattered points, as scipy has them (``qhull.pyx``, ``interpnd.pyx``): how far beyond a
# triangle's edge is still inside, beside a flat one, and what is flat.
_EPSILON = 2.0**-52
_EDGE, _BROAD, _FLAT = 100 * _EPSILON, _EPSILON**0.5, 1000 * _EPSILON


def last_covered(last: float) -> float:
    """How far an axis is covered that was profiled up to ``last``."""
    return last * _SLACK


class Interpolant(Protocol):
    """A function of one or more coordinates, known at points."""

    def at(self, *coordinates: float) -> tuple[float, bool]:
        """The value, and whether the coordinates lie outside the points."""


class Curve:
    """Piecewise linear in one coordinate. ``xs`` ascend strictly."""

    __slots__ = ("_first", "_last", "_limit", "_slopes", "_tail", "_xs", "_ys")

    def __init__(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        self._xs, self._ys = list(xs), list(ys)
        self._first, self._last = self._xs[0], self._xs[-1]
        self._limit = last_covered(self._last)
        pairs = zip(zip(xs, ys, strict=True), zip(xs[1:], ys[1:], strict=True), strict=False)
        self._slopes = [(y1 - y0) / (x1 - x0) for (x0, y0), (x1, y1) in pairs]
        self._tail = max(0.0, self._slopes[-1]) if self._slopes else 0.0

    def at(self, *coordinates: float) -> tuple[float, bool]:
        """The value at a coordinate, and whether it lies outside the points."""
        x = coordinates[0]
        if x < self._first:
            return self._ys[0], True
        if x >= self._last:
            return self._ys[-1] + self._tail * (x - self._last), x > self._limit
        index = bisect_right(self._xs, x) - 1
        return self._ys[index] + self._slopes[index] * (x - self._xs[index]), False


class Surface:
    """Interpolates along its first coordinate between functions of the remaining ones.

    The inner functions need not be known at the same points, so a grid may be ragged.
    """

    __slots__ = ("_nodes", "_xs")

    def __init__(self, xs: Sequence[float], nodes: Sequence[Interpolant]) -> None:
        self._xs, self._nodes = list(xs), list(nodes)

    def at(self, *coordinates: float) -> tuple[float, bool]:
        """The value at the coordinates, and whether they lie outside the points."""
        x, *rest = coordinates
        xs, nodes = self._xs, self._nodes
        index = bisect_right(xs, x) - 1
        if index < 0:
            return nodes[0].at(*rest)[0], True
        below, outside = nodes[index].at(*rest)
        if x == xs[index]:
            return below, outside
        if index == len(xs) - 1:
            if index:
                before, _ = nodes[index - 1].at(*rest)
                slope = max(0.0, (below - before) / (xs[index] - xs[index - 1]))
                below += slope * (x - xs[index])
            return below, outside or x > last_covered(xs[index])
        above, also_outside = nodes[index + 1].at(*rest)
        share = (x - xs[index]) / (xs[index + 1] - xs[index])
        return below + share * (above - below), outside or also_outside


class Ignoring:
    """A function that does not depend on its first coordinate."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Interpolant) -> None:
        self._inner = inner

    def at(self, *coordinates: float) -> tuple[float, bool]:
        """The inner function's value at the coordinates after the first."""
        return self._inner.at(*coordinates[1:])


class Scattered:
    """Linear on the Delaunay triangles of points that form no grid; nearest point outside them.

    Flagged outside the points' bounding box only. What ``scipy.interpolate.LinearNDInterpolator``
    and ``NearestNDInterpolator`` give, without them: their import takes longer than a small
    simulation, and they turn each triangle's two equations over to LAPACK and its threads.
    """

    def __init__(self, points: Sequence[Point], values: Sequence[float]) -> None:
        import numpy as np
        from scipy.spatial import Delaunay, QhullError, cKDTree

        places = np.asarray(points, dtype=float)
        self._low, self._high = places.min(axis=0), places.max(axis=0)
        self._scale = np.where(self._high > self._low, self._high - self._low, 1.0)
        self._values = np.asarray(values, dtype=float)
        unit = (places - self._low) / self._scale
        self._nearest = cKDTree(unit)
        try:
            self._corners = Delaunay(unit).simplices
        except QhullError:  # all points on one line
            self._corners = np.empty((0, 3), dtype=int)
        first, second, self._third = (unit[self._corners[:, corner]] for corner in range(3))
        (a, c), (b, d) = (first - self._third).T, (second - self._third).T
        size, area = abs(np.array([a, b, c, d])).max(axis=0, initial=0.0), a * d - b * c
        flat = abs(area) <= _FLAT * size**2
        rows = np.array([[d, -b], [-c, a]]) / np.where(flat, np.nan, area)
        self._inverse = rows.transpose(2, 0, 1)
        self._slack = _BROAD if flat.any() else _EDGE

    def at(self, *coordinates: float) -> tuple[float, bool]:
        """The value at the coordinates, and whether they lie outside the points' box."""
        import numpy as np

        place = np.asarray(coordinates, dtype=float)
        outside = bool((place < self._low).any() or (place > self._high).any())
        unit = (np.clip(place, self._low, self._high) - self._low) / self._scale
        shares = (self._inverse * (unit - self._third)[:, None, :]).sum(axis=2)
        shares = np.column_stack([shares, 1 - shares.sum(axis=1)])
        least = np.nan_to_num(shares.min(axis=1), nan=-1.0)  # a flat triangle holds nothing
        if len(least) and least.max() >= -self._slack:
            inside = int(least.argmax())
            return float(shares[inside] @ self._values[self._corners[inside]]), outside
        return float(self._values[self._nearest.query(unit)[1]]), outside


def ragged_grid(points: Iterable[Point], values: Iterable[float]) -> Interpolant:
    """Interpolate linearly along each axis in turn, the last axis innermost.

    Args:
        points: Coordinates, all of the same number of axes; each point once.
        values: The value at each point.
    """
    known = list(zip(points, values, strict=True))
    if len(known[0][0]) == 1:
        known.sort()
        return Curve([point[0] for point, _ in known], [value for _, value in known])
    groups: dict[float, list[tuple[Point, float]]] = defaultdict(list)
    for point, value in known:
        groups[point[0]].append((point[1:], value))
    xs = sorted(groups)
    return Surface(xs, [ragged_grid(*zip(*groups[x], strict=True)) for x in xs])


def grid_or_scattered(points: Sequence[Point], values: Sequence[float]) -> Interpolant:
    """`ragged_grid` where the points fill a rectangular grid, else `Scattered`."""
    filled = 1
    for axis in zip(*points, strict=True):
        filled *= len(set(axis))
    return (ragged_grid if filled == len(points) else Scattered)(points, values)
