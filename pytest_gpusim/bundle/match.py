"""A bundle never silently stands in for another model, device, dtype or engine mode.

Whoever asks "does this profile fit?" asks here: `mismatches` of a bundle and `metadata_mismatches`
of its metadata alone, `require_match` and `require_model` where another one must not pass, and
`compare_with_run` for a run that is there already.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_gpusim.bundle.commands import profile_command
from pytest_gpusim.bundle.metadata import identity_findings
from pytest_gpusim.bundle.schema import META, Bundle
from pytest_gpusim.deployment.dtypes import plain_dtype
from pytest_gpusim.deployment.quantization import method_has
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
    # Data sheets and published tables know a GPU by its class; a processor is only itself.
    if meta.get("device_name") is None and meta.get("hardware") != "cpu":
        device_name = None
    asked: dict[str, Any] = {"model": model, "hardware": hardware, "device_name": device_name}
    if engine is not None:
        asked |= _of_engine(engine.to_json())
    found = [
        (field, f"the bundle is of {meta.get(field)!r}, asked for is {value!r}")
        for field, value in asked.items()
        if value is not None and meta.get(field) != value
    ]
    if engine is not None and not _has_degree(meta, engine.tensor_parallel_size):
        sizes, degree = meta.get("tensor_parallel_sizes") or [], engine.tensor_parallel_size
        found.append(("tensor_parallel_sizes", f"the bundle has {sizes}, asked for is {degree}"))
    if engine is not None:
        found += [
            (field, f"the bundle is of {mine!r}, asked for is {asked!r}")
            for field, mine, asked in _other_numbers(meta, engine.to_json())
        ]
    return found


def compare_with_run(
    meta: Mapping[str, Any], run_meta: Mapping[str, Any], run: str = "the run"
) -> tuple[list[str], list[Mismatch]]:
    """Hold a profile's metadata against a run's: the fields that both state, and what differs.

    What one side does not state is passed over. Where both name their device, its class is not
    compared.

    Args:
        meta: ``profile_meta.json``.
        run_meta: ``run_meta.json``.
        run: What it is called in what differs.
    """
    engine: Mapping[str, Any] = run_meta.get("engine") or {}
    ran = {key: run_meta.get(key) for key in ("model", "device_name", "hardware")}
    ran |= _of_engine(engine)
    profiled = {**meta, "dtype": _plain_dtype(meta.get("dtype"))}
    for key in ("threads", "attention_backend"):
        ran[key] = engine.get(key)
        profiled[key] = (meta.get("engine_settings") or {}).get(key)
    if profiled.get("device_name") and ran["device_name"]:
        del ran["hardware"]
    compared = [
        field
        for field, value in ran.items()
        if value is not None and profiled.get(field) is not None
    ]
    found = [
        (field, f"the profile is of {profiled[field]!r}, {run} of {ran[field]!r}")
        for field in compared
        if profiled[field] != ran[field]
    ]
    sizes, degree = meta.get("tensor_parallel_sizes"), engine.get("tensor_parallel_size")
    if sizes and not _has_degree(meta, degree):
        text = f"the profile has {sizes}, {run} ran with {degree}"
        found.append(("tensor_parallel_sizes", text))
    found += [
        (field, f"the profile is of {mine!r}, {run} of {stated!r}")
        for field, mine, stated in _other_numbers(meta, engine)
    ]
    return compared, found


def _other_numbers(
    meta: Mapping[str, Any], engine: Mapping[str, Any]
) -> list[tuple[str, Any, Any]]:
    """Quantization and KV dtype where settings state another one: field, profiled, stated.

    A profile that says nothing of them is of plain weights and a KV cache in the model's dtype.
    """
    found = []
    scheme, method = meta.get("quantization"), engine.get("quantization")
    if isinstance(method, str) and not method_has(method, scheme):
        found.append(("quantization", scheme, method))
    cache, asked = meta.get("kv_cache_dtype") or meta.get("dtype"), engine.get("kv_cache_dtype")
    if asked is not None and _plain_dtype(asked) != _plain_dtype(cache):
        found.append(("kv_cache_dtype", cache, asked))
    return found


def _of_engine(engine: Mapping[str, Any]) -> dict[str, Any]:
    """Of an engine's settings those that a profile's metadata state."""
    dtype, eager = _plain_dtype(engine.get("dtype")), engine.get("enforce_eager")
    return {
        "dtype": None if dtype == "auto" else dtype,
        "engine_mode": None if eager is None else ("eager" if eager else "compiled"),
    }


def _plain_dtype(value: Any) -> Any:
    return plain_dtype(value) if isinstance(value, str) else value


def _has_degree(meta: Mapping[str, Any], degree: Any) -> bool:
    sizes = meta.get("tensor_parallel_sizes") or []
    return degree is None or (isinstance(sizes, list) and degree in sizes)


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
    if model is None:
        return found
    asked = engine.kv_cache_dtype if engine is not None else None
    cache = bundle.meta.get("kv_cache_dtype") or bundle.meta.get("dtype")
    wanted = model.kv_cache_dtype(str(bundle.meta.get("dtype")), asked)
    if asked is None and wanted != cache:
        found.append(
            (
                "kv_cache_dtype",
                f"the bundle is of {cache!r}, {model.name} has {wanted!r} unless told otherwise",
            )
        )
    return found + shape_mismatches(bundle, model)


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


def require_model(bundle: Bundle, model: ModelShape | str) -> None:
    """Raise `InputError` where a bundle is not of a model, by its shape or by its name alone."""
    if isinstance(model, str):
        found = metadata_mismatches(bundle.meta, model=model)
        name = model
    else:
        found, name = shape_mismatches(bundle, model), model.name
    for field, text in found:
        whole = f"{text} (profiled is {bundle.meta['model']})"
        raise InputError(bundle.path / META, field, whole, f"profile {name}")
