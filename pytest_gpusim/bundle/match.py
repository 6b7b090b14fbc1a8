"""A bundle never silently stands in for another model, device, dtype or engine mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gpusim.bundle.schema import META, Bundle
from pytest_gpusim.errors import InputError

if TYPE_CHECKING:
    from pytest_gpusim.deployment import EngineSettings, Hardware, ModelShape


def mismatches(
    bundle: Bundle,
    model: ModelShape | None,
    hardware: Hardware | None,
    engine: EngineSettings | None,
) -> list[tuple[str, str]]:
    """(field, what the bundle says and what was asked) for each thing that differs."""
    meta = bundle.meta
    found: list[tuple[str, str]] = []

    def differ(field: str, profiled: object, asked: object) -> None:
        if profiled is not None and asked is not None and profiled != asked:
            found.append((field, f"the bundle is of {profiled!r}, asked for is {asked!r}"))

    if model is not None:
        differ("model", meta["model"], model.name)
        shape = bundle.model_shape
        for name in shape.differing_fields(model):
            differ(f"model_shape.{name}", getattr(shape, name), getattr(model, name))
    if hardware is not None:
        differ("hardware", meta["hardware"], hardware.name)
    if engine is not None:
        differ("dtype", meta["dtype"], engine.dtype)
        if engine.enforce_eager is not None:
            differ("engine_mode", meta["engine_mode"], _mode(engine))
        sizes = meta["tensor_parallel_sizes"] or []
        if engine.tensor_parallel_size is not None and engine.tensor_parallel_size not in sizes:
            found.append(
                (
                    "tensor_parallel_sizes",
                    f"the bundle has {sizes}, asked for is {engine.tensor_parallel_size}",
                )
            )
    return found


def require_match(
    bundle: Bundle, model: ModelShape, hardware: Hardware, engine: EngineSettings
) -> None:
    """Raise `InputError` on the first mismatch, naming both sides."""
    for field, text in mismatches(bundle, model, hardware, engine):
        raise InputError(
            bundle.path / META,
            field,
            text,
            f"profile it: 'gpusim profile vllm --model {model.name} --hardware {hardware.name}'",
        )


def _mode(engine: EngineSettings) -> str:
    return "eager" if engine.enforce_eager else "compiled"
