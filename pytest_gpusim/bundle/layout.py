"""Where bundles are: ``<root>/<hardware>/<org>/<name>/[<variant>/]``, or the root itself."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.artifacts import safe_name
from pytest_gpusim.bundle.commands import OTHER_SOURCES, profile_command, vidur_command
from pytest_gpusim.bundle.match import metadata_mismatches
from pytest_gpusim.bundle.metadata import check_kinds
from pytest_gpusim.bundle.schema import ATTENTION, META, META_KEYS, MLP
from pytest_gpusim.errors import GpusimError, InputError
from pytest_gpusim.json_documents import read_json

if TYPE_CHECKING:
    from pytest_gpusim.deployment import EngineSettings

_DEEPEST = 4  # <hardware>/<org>/<name>/<variant>


def is_bundle(directory: Path) -> bool:
    """Whether a directory holds a bundle, or pieces of one."""
    return any((directory / name).is_file() for name in (META, ATTENTION, MLP))


def resolve_root(
    root: Path | str,
    model: str,
    hardware: str,
    engine: EngineSettings | None = None,
    device_name: str | None = None,
) -> Path:
    """The bundle for a model on a device below ``root``.

    Args:
        root: A profiling root, or a bundle, which is then the one.
        model: The model's name.
        hardware: The device class.
        engine: Among several variants, only those of these settings fit.
        device_name: Among several variants, only those of this very device fit.

    Raises:
        InputError: There is none, there are several, or the root is Vidur's own tree, which has no
            metadata.
    """
    root = Path(root)
    if is_bundle(root):
        return root
    require_root(root, model, hardware)
    variants = _variants(root, model, hardware)
    if not variants:
        raise _none_found(root, model, hardware)
    fitting = fitting_variants(variants, engine, device_name)
    if len(fitting) == 1:
        return fitting[0]
    several, place = fitting or variants, root / hardware / model
    names = ", ".join(_described(path, place) for path in several)
    if fitting:
        problem, fix = f"several variants fit: {names}", "name one as --profiling-root"
    else:
        problem = f"none of the variants fits what is asked: {names}"
        asked = {"model": model, "hardware": hardware, "engine_settings": True}
        fix = f"profile what is asked with '{profile_command(asked)}'"
    raise InputError(place, "", problem, fix)


def find_bundles(
    root: Path | str,
    model: str | None = None,
    hardware: str | None = None,
    engine: EngineSettings | None = None,
    device_name: str | None = None,
) -> list[Path]:
    """All bundles at or below ``root`` that are of what is asked; None asks for nothing.

    Raises:
        InputError: There are none, or several variants fit where model and hardware are named.
    """
    root = Path(root)
    if is_bundle(root):
        return [root]
    if model is not None and hardware is not None:
        return [resolve_root(root, model, hardware, engine, device_name)]
    require_root(root, model, hardware)
    found = [
        root / name
        for name in bundle_names(root)
        if (hardware is None or Path(name).parts[0] == hardware)
        and (model is None or _is_of(name, model))
    ]
    if not found:
        raise _none_found(root, model, hardware)
    if model is None and hardware is None:
        return found
    return fitting_variants(found, engine, device_name) or found


def require_root(root: Path, model: str | None, hardware: str | None) -> None:
    """Raise `InputError` where ``root`` is absent or Vidur's own tree."""
    if not root.is_dir():
        raise InputError(root, "", "no such profiling root", _fix(model, hardware))
    tree = _vidur_tree(root)
    if tree is not None:
        raise InputError(
            root,
            "",
            "is Vidur's own profiling tree, which does not say what was measured",
            f"make a bundle of it with {vidur_command(tree, model, hardware)}",
        )


def bundle_names(root: Path) -> list[str]:
    """Bundles below a root, pieces of bundles among them, as paths relative to it."""
    if not root.is_dir() or _vidur_tree(root) is not None:
        return []
    found: list[str] = []
    level = [root]
    for depth in range(1, _DEEPEST + 1):
        level = [path for parent in level for path in _folders(parent)]
        # The first level is the device's: what lies there belongs to no model.
        found += [
            path.relative_to(root).as_posix() for path in level if depth > 1 and is_bundle(path)
        ]
    return sorted(found)


def fitting_variants(
    variants: Sequence[Path], engine: EngineSettings | None, device_name: str | None
) -> list[Path]:
    """Those variants whose metadata do not differ from what is asked; a lone one is not judged."""
    if len(variants) < 2:
        return list(variants)
    return [
        path
        for path in variants
        if not (meta := unchecked_meta(path))  # one that cannot be read stays visible
        or not metadata_mismatches(meta, engine=engine, device_name=device_name)
    ]


def place_bundle(made: Path, root: Path) -> Path:
    """Move a bundle to where its own metadata says that it belongs below ``root``.

    A bundle that is there already stays: the new one becomes a variant, named by its digest. Where
    the very same one is there, that one is returned and the new one is dropped.
    """
    meta = unchecked_meta(made)
    name = place_of(made)
    if name is None:
        text = f"{meta.get('model')!r} on {meta.get('hardware')!r} is no place below {root}"
        raise InputError(made / META, "model", text, "give --model NAME or --out DIR")
    place = root / name
    for other in (place, *_folders(place)):
        if is_bundle(other) and _content(unchecked_meta(other)) == _content(meta):
            shutil.rmtree(made)
            return other
    target, number = place, 1
    while target.exists() and any(target.iterdir()):
        suffix = f"-{number}" if number > 1 else ""
        target, number = place / f"{str(meta['digest'])[:12]}{suffix}", number + 1
    target.parent.mkdir(parents=True, exist_ok=True)
    return made.rename(target)


def place_of(bundle: Path) -> Path | None:
    """Where a bundle belongs below a root by its own metadata, without a variant's folder."""
    meta = unchecked_meta(bundle)
    if not isinstance(meta.get("hardware"), str) or not isinstance(meta.get("model"), str):
        return None
    parts = [meta["hardware"], *meta["model"].split("/")]
    return Path(*parts) if all(safe_name(part) == part for part in parts) else None


def unchecked_meta(directory: Path) -> dict[str, Any]:
    """What the metadata say, complete or not; nothing where they cannot be read, or say something
    that is none of its kind.
    """
    try:
        meta = read_json(directory / META)
        if not isinstance(meta, dict):
            return {}
        check_kinds(directory / META, {**dict.fromkeys(META_KEYS), "digest": "", **meta})
    except GpusimError:
        return {}
    return meta


def _variants(root: Path, model: str, hardware: str) -> list[Path]:
    """The bundle at the model's place and those in folders below it, of whatever model."""
    place = root / hardware / model
    found = [place] if is_bundle(place) else []
    for path in _folders(place):
        # The place of another model, such as org/name below a model that is called org.
        elsewhere = root / hardware / str(unchecked_meta(path).get("model")) == path
        if is_bundle(path) and not elsewhere:
            found.append(path)
    return found


def _is_of(name: str, model: str) -> bool:
    """Whether ``<hardware>/<model>[/<variant>]`` is of the model; by its folders, as resolved."""
    below = Path(*Path(name).parts[1:]).as_posix()
    return below == model or Path(below).parent.as_posix() == model


def _content(meta: dict[str, Any]) -> list[Any]:
    """What makes two bundles the same, whenever and by whichever release they were made."""
    keys = ("model", "model_shape", "hardware", "device_name", "engine_version", "engine_mode")
    more = ("engine_settings", "dtype", "block_size", "tensor_parallel_sizes", "skew_fit")
    return [meta.get(key) for key in ("digest", *keys, *more)]


def _described(path: Path, place: Path) -> str:
    meta = unchecked_meta(path)
    name = "." if path == place else path.name
    facts = [meta.get("dtype"), meta.get("engine_mode"), meta.get("device_name")]
    sizes = meta.get("tensor_parallel_sizes")
    facts.append(f"degrees {sizes}" if sizes not in (None, [1]) else None)
    facts.append(f"made {meta['created_at']}" if meta.get("created_at") else None)
    return f"{name} ({', '.join(str(fact) for fact in facts if fact) or 'no metadata'})"


def _none_found(root: Path, model: str | None, hardware: str | None) -> InputError:
    found = ", ".join(bundle_names(root)) or "none"
    what = " ".join(
        part for part in (model and f"of {model}", hardware and f"on {hardware}") if part
    )
    text = f"no bundle {what}; bundles found: {found}" if what else "has no bundle"
    return InputError(root, "", text, _fix(model, hardware))


def _fix(model: str | None, hardware: str | None) -> str:
    command = profile_command({"model": model, "hardware": hardware})
    return f"make one with '{command}'; {OTHER_SOURCES}"


def _vidur_tree(root: Path) -> Path | None:
    for tree in (root, root / "profiling", root / "data" / "profiling"):
        if (tree / "compute").is_dir():
            return tree
    return None


def _folders(directory: Path) -> list[Path]:
    """Directories in a directory, but for those that are still being written."""
    if not directory.is_dir():
        return []
    return sorted(p for p in directory.iterdir() if p.is_dir() and not p.name.startswith("."))
