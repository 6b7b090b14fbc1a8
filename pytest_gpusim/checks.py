"""One named finding about an artifact: what bundle checks and comparisons report alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["pass", "fail", "warn", "skip", "unknown", "accepted"]


@dataclass(frozen=True)
class Check:
    """The result of one check of a bundle or of a comparison.

    Attributes:
        name: The check's name.
        status: ``pass``, ``fail``, ``warn``, ``skip`` (does not apply), ``unknown`` (a side does
            not say) or ``accepted``.
        detail: One line; for a failure what is wrong, where, and the command that mends it.
    """

    name: str
    status: Status
    detail: str

    def to_json(self) -> dict[str, Any]:
        """The three fields, as JSON values."""
        return {"name": self.name, "status": self.status, "detail": self.detail}
