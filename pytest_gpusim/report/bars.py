"""Errors as marks on a line, to be read down a column of a table."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from pytest_gpusim.compare.format import signed_percent
from pytest_gpusim.errors import plain_lines

_WIDTH, _HEIGHT = 260.0, 22.0


def common_reach(errors: Iterable[float | None]) -> float:
    """The error at a bar's end: the largest of all that are shown, at least 1%."""
    return max(0.01, 1.1 * max((abs(error) for error in errors if error is not None), default=0.0))


def error_marks(name: str, error: float, other: float | None, other_name: str, reach: float) -> str:
    """An error as a dot from the line of no error, and another simulator's as a diamond, as SVG;
    beyond ``reach`` the diamond is an arrow at the end.
    """
    middle = _HEIGHT / 2

    def at(ratio: float) -> float:
        return round(_WIDTH / 2 * (1 + max(-1.0, min(1.0, ratio / reach)) * 0.95), 1)

    said = f"{name}: error {signed_percent(error)}"
    diamond = ""
    if other is not None:
        said += f", {other_name} {signed_percent(other)}"
        x = at(other)
        shape = (
            f"M{x - 5:g} {middle:g}L{x:g} {middle - 5:g}L{x + 5:g} {middle:g}L{x:g} {middle + 5:g}Z"
        )
        if abs(other) > reach:
            tip = 5 if other > 0 else -5
            shape = f"M{x:g} {middle - 5:g}L{x + tip:g} {middle:g}L{x:g} {middle + 5:g}Z"
        diamond = f'<path class="other" d="{shape}"/>'
    return (
        f'<svg class="bar" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" '
        f'aria-label="{escape(plain_lines(said))}">'
        f'<line x1="0" x2="{_WIDTH:g}" y1="{middle:g}" y2="{middle:g}" class="rail"/>'
        f'<line x1="{_WIDTH / 2:g}" x2="{_WIDTH / 2:g}" y1="1" y2="{_HEIGHT - 1:g}" class="nil"/>'
        f'<line x1="{_WIDTH / 2:g}" x2="{at(error)}" y1="{middle:g}" y2="{middle:g}" class="span"/>'
        f'{diamond}<circle cx="{at(error)}" cy="{middle:g}" r="4.5" class="dot sim"/></svg>'
    )
