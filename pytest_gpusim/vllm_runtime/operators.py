"""Timing a model's operators inside real engine steps, by module hooks.

Eager execution only: a compiled model calls almost none of its modules (see `Driver`'s steps then).
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

from pytest_gpusim.vllm_runtime.engine import model_runner

ATTENTION, MOE = "attention", "moe"
_CALLS, _BATCHES = 100, 5
_BY_MODULE = {
    "embed_tokens": "emb",
    "input_layernorm": "input_layernorm",
    "qkv_proj": "attn_pre_proj",
    "q_norm": "qk_norm",
    "k_norm": "qk_norm",
    "rotary_emb": "attn_rope",
    "attn": ATTENTION,
    "o_proj": "attn_post_proj",
    "post_attention_layernorm": "post_attention_layernorm",
    "gate_up_proj": "mlp_up_proj",
    "act_fn": "mlp_act",
    "down_proj": "mlp_down_proj",
    "norm": "final_layernorm",
    "logits_processor": "lm_head",
}
"""Last part of a module's name to the operator's name in a bundle. vLLM's norms hold the residual
addition; the LM head's product is computed inside ``logits_processor``; the cache write is part of
``attn``. A module with ``experts`` is a block of its own: router, routed and shared experts."""


class OperatorClock:
    """Sums operator times per step. Inside ``with clock:`` the hooks are in place, else none are.

    Args:
        engine: An eager engine in this process.
        device: ``cpu`` is timed with the monotonic clock, ``cuda`` with events on the stream.
    """

    def __init__(self, engine: Any, device: str) -> None:
        runner = model_runner(engine)
        self._modules: list[tuple[Any, str]] = []
        blocks: tuple[str, ...] = ()
        for name, module in runner.get_model().named_modules():
            if name.startswith(blocks):
                continue  # inside a block of experts: its parts are within its own time
            operator = _BY_MODULE.get(name.rsplit(".", 1)[-1])
            if getattr(module, "experts", None) is not None:
                operator, blocks = MOE, (*blocks, f"{name}.")
            if operator is not None:
                self._modules.append((module, operator))
        self._modules.append((runner.sampler, "sampler"))
        self._device = device
        self._handles: list[Any] = []
        self._opened: list[Any] = []
        self._spans: list[tuple[str, Any, Any]] = []
        self._cost_ns = _hook_cost_ns(_stamp_on(device))

    @property
    def operators(self) -> set[str]:
        """The operators that the model has."""
        return {operator for _, operator in self._modules}

    def __enter__(self) -> OperatorClock:
        stamp = _stamp_on(self._device)

        def before(*_: Any) -> None:
            self._opened.append(stamp())

        def after(operator: str) -> Callable[..., None]:
            def hook(*_: Any) -> None:
                self._spans.append((operator, self._opened.pop(), stamp()))

            return hook

        for module, operator in self._modules:
            self._handles.append(module.register_forward_pre_hook(before))
            self._handles.append(module.register_forward_hook(after(operator)))
        return self

    def __exit__(self, *_: Any) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._opened.clear()
        self._spans.clear()

    def take(self) -> tuple[dict[str, int], int]:
        """Since the last call: ns by operator, all layers together, and ns that the hooks took."""
        totals: dict[str, int] = {}
        for operator, begun, ended in self._spans:
            span = (
                ended - begun if self._device == "cpu" else round(begun.elapsed_time(ended) * 1e6)
            )
            totals[operator] = totals.get(operator, 0) + span
        cost = round(len(self._spans) * self._cost_ns)
        self._spans.clear()
        return totals, cost


def _stamp_on(device: str) -> Callable[[], Any]:
    if device == "cpu":
        return perf_counter_ns
    import torch

    def record() -> Any:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    return record


def _hook_cost_ns(stamp: Callable[[], Any]) -> float:
    """What a pair of hooks adds to one call of a module: median over batches of an empty one."""
    from statistics import median

    import torch

    module, opened = torch.nn.Identity(), []
    spans: list[tuple[str, Any, Any]] = []

    def batch() -> float:
        begun = perf_counter_ns()
        for _ in range(_CALLS):
            module(None)
        spans.clear()
        return (perf_counter_ns() - begun) / _CALLS

    bare = median(batch() for _ in range(_BATCHES))
    module.register_forward_pre_hook(lambda *_: opened.append(stamp()))
    module.register_forward_hook(lambda *_: spans.append(("", opened.pop(), stamp())))
    return max(0.0, median(batch() for _ in range(_BATCHES)) - bare)
