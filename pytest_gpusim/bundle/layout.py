"""Where bundles are: ``<root>/<hardware>/<org>/<name>/[<variant>/]``, or the root itself."""

from __future__ import annotations

from pathlib import Path

from pytest_gpusim.bundle.schema import ATTENTION, META, MLP
from pytest_gpusim.errors import InputError

DEFAULT_ROOT = Path("tmp") / "vidur_profiling"


def is_bundle(directory: Path) -> bool:
    """Whether a directory holds a bundle, or pieces of one."""
    return any((directory / name).is_file() for name in (META, ATTENTION, MLP))


def resolve_root(root: Path | str, model: str, hardware: str) -> Path:
    """The bundle for a model on a device below ``root``.

    Raises:
        InputError: There is none, there are several, or the root is Vidur's own tree, which has no
            metadata.
    """
    root = Path(root)
    fix = f"make one with 'gpusim profile vllm --model {model} --hardware {hardware}'"
    if not root.is_dir():
        raise InputError(root, "", "no such profiling root", fix)
    if is_bundle(root):
        return root
    if (root / "compute").is_dir() or (root / "data" / "profiling" / "compute").is_dir():
        raise InputError(
            root,
            "",
            "is Vidur's own profiling tree, which does not say what was measured",
            f"make a bundle of it with 'gpusim profile vidur {root} --model {model}'",
        )
    place = root / hardware / model
    if is_bundle(place):
        return place
    variants = sorted(path for path in place.glob("*") if path.is_dir() and is_bundle(path))
    if len(variants) > 1:
        names = ", ".join(path.name for path in variants)
        raise InputError(
            place, "", f"several variants fit: {names}", "name one as --profiling-root"
        )
    if variants:
        return variants[0]
    found = ", ".join(bundle_names(root)) or "none"
    raise InputError(root, "", f"no bundle of {model} on {hardware}; bundles found: {found}", fix)


def bundle_names(root: Path) -> list[str]:
    """Bundles below a root, as paths relative to it."""
    if not root.is_dir():
        return []
    return sorted(str(path.parent.relative_to(root)) for path in root.glob(f"*/*/*/**/{META}"))


def place_bundle(made: Path, root: Path) -> Path:
    """Move a bundle to where its own metadata says that it belongs below ``root``.

    A bundle that is there already stays: the new one becomes a variant, named by its digest.
    """
    from pytest_gpusim.artifacts import read_json

    meta = read_json(made / META)
    place = root / str(meta["hardware"]) / str(meta["model"])
    if place.exists():
        place = place / str(meta["digest"])[:12]
    if place.exists():
        raise InputError(place, "", "this very bundle is there already")
    place.parent.mkdir(parents=True, exist_ok=True)
    return made.rename(place)
