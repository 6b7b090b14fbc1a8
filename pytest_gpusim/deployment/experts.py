"""The experts of a sparse decoder, read from its Hugging Face ``config.json``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pytest_gpusim.errors import InputError, shortly

# Architecture -> keys of (number of experts, width of one); experts per token is one key for all.
_KEYS = {
    "MixtralForCausalLM": ("num_local_experts", "intermediate_size"),
    "Qwen2MoeForCausalLM": ("num_experts", "moe_intermediate_size"),
    "Qwen3MoeForCausalLM": ("num_experts", "moe_intermediate_size"),
    "MiniMaxM2ForCausalLM": ("num_local_experts", "intermediate_size"),
}
# Families in which only some layers may have experts (``qwen3_moe.py: Qwen3MoeDecoderLayer``).
_WITH_DENSE_LAYERS = ("Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM")
_MOST = 10**9
_WITH_SHARED = {"Qwen2MoeForCausalLM": "shared_expert_intermediate_size"}


@dataclass(frozen=True)
class Experts:
    """What the layers of a mixture of experts have in place of an MLP. Widths are in elements.

    Attributes:
        num_experts: Routed experts of a layer.
        per_token: Experts that each token is sent to.
        width: Inner width of one expert.
        shared_width: Inner width of the MLP that every token passes besides; 0: there is none.
        num_dense_layers: Layers that have an ordinary MLP (``intermediate_size``) instead.
    """

    num_experts: int
    per_token: int
    width: int
    shared_width: int = 0
    num_dense_layers: int = 0

    @classmethod
    def from_config(
        cls,
        architecture: str,
        config: Mapping[str, Any],
        integer: Callable[[str], int],
        where: Path | str,
    ) -> Experts | None:
        """Read the experts of a parsed ``config.json``; None for a dense architecture.

        Args:
            architecture: Its class.
            config: The document.
            integer: Reads a positive integer, or raises `InputError`.
            where: The file, for messages.
        """
        if architecture not in _KEYS:
            return None
        number, width = _KEYS[architecture]
        found = cls(
            num_experts=integer(number),
            per_token=integer("num_experts_per_tok"),
            width=integer(width),
            shared_width=integer(_WITH_SHARED[architecture]) if architecture in _WITH_SHARED else 0,
            num_dense_layers=_dense_layers(architecture, config, integer("num_hidden_layers")),
        )
        if found.per_token > found.num_experts:
            raise InputError(
                where, "num_experts_per_tok", f"{found.per_token} of {found.num_experts} experts"
            )
        return found

    @classmethod
    def from_json(cls, document: object, where: Path | str) -> Experts | None:
        """Read what `to_json` wrote; None stays None."""
        if document is None:
            return None
        keys = set(cls.__dataclass_fields__)
        if not isinstance(document, Mapping) or set(document) != keys:
            raise InputError(where, "model_shape, experts", f"expected {', '.join(sorted(keys))}")
        least = {"shared_width": 0, "num_dense_layers": 0}
        for key, value in document.items():
            if type(value) is not int or not least.get(key, 1) <= value <= _MOST:
                said = f"expected an integer from {least.get(key, 1)} on, found {shortly(value)}"
                raise InputError(where, f"model_shape, experts, {key}", said)
        found = cls(**document)
        if found.per_token > found.num_experts:
            said = f"{found.per_token} of {found.num_experts} experts"
            raise InputError(where, "model_shape, experts, per_token", said)
        return found

    def to_json(self) -> dict[str, Any]:
        """All fields, as JSON values."""
        return asdict(self)

    def to_hf_config(self, architecture: str) -> dict[str, Any]:
        """Keys of a ``config.json`` for these experts."""
        number, width = _KEYS[architecture]
        keys = {number: self.num_experts, width: self.width, "num_experts_per_tok": self.per_token}
        if architecture in _WITH_SHARED:
            keys[_WITH_SHARED[architecture]] = self.shared_width
        if architecture in _WITH_DENSE_LAYERS:
            return {
                **keys,
                "decoder_sparse_step": 1,
                "mlp_only_layers": list(range(self.num_dense_layers)),
                "norm_topk_prob": True,
            }
        return keys

    def expected_active(self, tokens: int) -> float:
        """Experts that at least one of ``tokens`` tokens is sent to, on average.

        Every expert is equally likely, as where each token draws its experts at random.
        """
        return self.num_experts * (1 - (1 - self.per_token / self.num_experts) ** tokens)


def _dense_layers(architecture: str, config: Mapping[str, Any], num_layers: int) -> int:
    if architecture not in _WITH_DENSE_LAYERS:
        return 0
    plain = set(config.get("mlp_only_layers") or ())
    step = config.get("decoder_sparse_step") or 1
    return sum(layer in plain or (layer + 1) % step != 0 for layer in range(num_layers))
