"""Weights of made-up values, in the engine's process: as fast to compute with, faster to make."""

from __future__ import annotations

from typing import Any

LOAD_FORMAT = "gpusim_made_up"
_TILE = 1 << 20
_SCALE = 2e-3  # vLLM's own dummy weights are uniform within +-1e-3


def register_loader() -> None:
    """Make `LOAD_FORMAT` known to vLLM.

    vLLM's own ``dummy`` draws every weight on one thread, 20 s for 0.6 B parameters; here one tile
    is drawn and repeated.
    """
    import torch
    from vllm.model_executor.model_loader import register_model_loader
    from vllm.model_executor.model_loader.dummy_loader import DummyModelLoader

    class MadeUpWeights(DummyModelLoader):  # type: ignore[misc]
        """Fills each weight from one random tile."""

        def load_weights(self, model: Any, model_config: Any) -> None:
            draw = torch.Generator().manual_seed(0)
            tile = (torch.rand(_TILE, generator=draw) - 0.5) * _SCALE
            with torch.no_grad():
                for tensor in model.state_dict().values():
                    if not tensor.is_floating_point() or not tensor.is_contiguous():
                        continue
                    same = tile.to(device=tensor.device, dtype=tensor.dtype)
                    flat = tensor.view(-1)
                    whole = flat.numel() // _TILE * _TILE
                    if whole:
                        flat[:whole].view(-1, _TILE).copy_(same.expand(whole // _TILE, _TILE))
                    flat[whole:].copy_(same[: flat.numel() - whole])

    register_model_loader(LOAD_FORMAT)(MadeUpWeights)
