"""What lies between a client and the engine: HTTP, tokenizing and hand-over, and the way back.

``frontend.csv`` has the delay of a request at either boundary, without queueing, by the tokens of
its prompt. It plays a role for a client's clock only; the engine's own begins behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_gpusim.bundle.schema import FRONTEND, Bundle
from pytest_gpusim.errors import InputError
from pytest_gpusim.serving.interpolation import Curve

if TYPE_CHECKING:
    import pandas as pd

INGRESS, EGRESS = BOUNDARIES = ("ingress", "egress")


@dataclass(frozen=True)
class Frontend:
    """Delays at both boundaries, ns by prompt tokens; None where there is none.

    Attributes:
        ingress: From sending to the engine's queue.
        egress: From the end of a step to the client.
    """

    ingress: Curve | None = None
    egress: Curve | None = None

    @classmethod
    def of_bundle(cls, bundle: Bundle) -> Frontend:
        """The front end of a bundle; one without delays where it has no such table.

        Raises:
            InputError: The table has a boundary that is not known.
        """
        table = bundle.frontend
        if table is None:
            return cls()
        unknown = sorted(set(table["boundary"]) - set(BOUNDARIES))
        if unknown:
            where = f"boundary {unknown[0]!r}"
            raise InputError(bundle.path / FRONTEND, where, f"expected one of {BOUNDARIES}")
        return cls(*(_curve(table[table["boundary"] == name]) for name in BOUNDARIES))

    def ingress_ns(self, num_prompt_tokens: int) -> int:
        """From sending a request to its place in the engine's queue."""
        return _at(self.ingress, num_prompt_tokens)

    def egress_ns(self, num_prompt_tokens: int) -> int:
        """From the end of a step to its token's arrival at the client."""
        return _at(self.egress, num_prompt_tokens)

    @property
    def is_known(self) -> bool:
        """Whether there is a delay at either boundary."""
        return self.ingress is not None or self.egress is not None


def _curve(rows: pd.DataFrame) -> Curve | None:
    if rows.empty:
        return None
    medians = rows.groupby("num_prompt_tokens")["time_ns"].median()
    return Curve([float(x) for x in medians.index], [float(y) for y in medians])


def _at(curve: Curve | None, num_prompt_tokens: int) -> int:
    return 0 if curve is None else round(curve.at(num_prompt_tokens)[0])
