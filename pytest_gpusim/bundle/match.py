"""A bundle never silently stands in for another model, device, dtype or engine mode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_gpusim.bundle.commands import profile_command
from pytest_gpusim.bundle.metadata import identity_findings
from pytest_gpusim.bundle.schema import META, Bundle
from pytest_gpusim.errors import InputError

if TYPE_CHECKING:
    from pytest_gpusim.deployment import EngineSettings, Hardware, ModelShape

Mismatch = tuple[str, str]
"""Field; what the bundle says and what was asked."""


def metadata_mismatches(
    meta: Mapping[str, Any],
    *,
    model: str | None = None,
    hardware: str | None = None,
    engine: EngineSettings | None = None,
    device_name: str | None = None,
) -> list[Mismatch]:
    """What differs by the metadata alone. None asks for nothing; a bundle's null is no match."""
    found: list[Mismatch] = []

    def differ(field: str, asked: object) -> None:
        profiled = meta.get(field)
        if asked is not None and profiled != asked:
            found.append((field, f"the bundle is of {profiled!r}, asked for is {asked!r}"))

    differ("model", model)
    differ("hardware", hardware)
    # Data sheets and published tables know a GPU by its class; a processor is only itself.
    if meta.get("device_name") is not None or meta.get("hardware") == "cpu":
        differ("device_name", device_name)
    if engine is not None:
        differ("dtype", None if engine.dtype == "auto" else engine.dtype)
        if engine.enforce_eager is not None:
            differ("engine_mode", "eager" if engine.enforce_eager else "compiled")
        sizes, degree = meta.get("tensor_parallel_sizes") or [], engine.tensor_parallel_size
        if degree is not None and (not isinstance(sizes, list) or degree not in sizes):
            found.append(
                ("tensor_parallel_sizes", f"the bundle has {sizes}, asked for is {degree}")
            )
    return found


def mismatches(
    bundle: Bundle,
    model: ModelShape | None,
    hardware: Hardware | None,
    engine: EngineSettings | None,
    device_name: str | None = None,
) -> list[Mismatch]:
    """Each thing in which the bundle is not what is asked, the model's shape among them."""
    found = metadata_mismatches(
        bundle.meta,
        model=model.name if model is not None else None,
        hardware=hardware.name if hardware is not None else None,
        engine=engine,
        device_name=device_name,
    )
    return found + (shape_mismatches(bundle, model) if model is not None else [])


def shape_mismatches(bundle: Bundle, model: ModelShape) -> list[Mismatch]:
    """Where the shape that was profiled is not the model's."""
    shape = bundle.model_shape
    return [
        (
            f"model_shape.{name}",
            f"the bundle is of {getattr(shape, name)!r}, {model.name} has {getattr(model, name)!r}",
        )
        for name in shape.differing_fields(model)
    ]


def asked_meta(
    meta: Mapping[str, Any],
    *,
    model: str | None,
    hardware: str | None,
    engine: EngineSettings | None,
) -> dict[str, Any]:
    """The metadata that a bundle of what is asked would have; for the command that makes it."""
    asked = {**meta, "model": model or meta.get("model"), "hardware": hardware or meta["hardware"]}
    if engine is not None:
        asked["engine_settings"] = engine.to_json()
        for key in ("dtype", "block_size"):
            asked[key] = getattr(engine, key) or meta.get(key)
        if engine.tensor_parallel_size is not None:
            asked["tensor_parallel_sizes"] = [engine.tensor_parallel_size]
    if meta.get("source") == "aiconfigurator" and asked["hardware"] != meta.get("hardware"):
        asked["system"] = None
    return asked


def require_match(
    bundle: Bundle, model: ModelShape, hardware: Hardware, engine: EngineSettings
) -> None:
    """Raise `InputError` on the first mismatch, naming both sides and the command that mends it."""
    asked = asked_meta(bundle.meta, model=model.name, hardware=hardware.name, engine=engine)
    fix = f"profile what is asked with '{profile_command(asked)}'"
    for text in identity_findings(bundle.meta):
        raise InputError(bundle.path, "", text, fix)
    for field, text in mismatches(bundle, model, hardware, engine):
        raise InputError(bundle.path / META, field, text, fix)
