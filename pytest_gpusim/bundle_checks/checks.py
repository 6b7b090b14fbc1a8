"""Whether the bundles of a root can be trusted for what is asked.

Needs neither an engine nor a simulator. `check_root` judges all below a root that are of what is
asked, `check_bundle` the same for one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gpusim.bundle.layout import bundle_names, find_bundles, is_bundle, place_of
from pytest_gpusim.bundle_checks.checker import Checker
from pytest_gpusim.bundle_checks.requirements import Requirements
from pytest_gpusim.bundle_checks.templates import Templates
from pytest_gpusim.checks import Check

if TYPE_CHECKING:
    from pytest_gpusim.bundle import Bundle
    from pytest_gpusim.deployment import EngineSettings, Hardware, ModelShape
    from pytest_gpusim.registry import Registry
    from pytest_gpusim.workload import Workload


def check_root(
    root: Path | str,
    *,
    registry: Registry,
    model: ModelShape | None = None,
    hardware: Hardware | None = None,
    workload: Workload | None = None,
    engine: EngineSettings | None = None,
    device_name: str | None = None,
    engine_from: Path | None = None,
    known: Bundle | None = None,
) -> list[Check]:
    """Check the bundles at or below a root that are of what is asked, and whether they cover it.

    Names begin with the bundle's place in the root where there are several.

    Args:
        root: A bundle, or a root; ``model`` and ``hardware`` choose among its bundles, and
            ``engine`` and ``device_name`` among variants.
        registry: For the device classes, models and profile sources that bundles name.
        model: A bundle must be of this model; None: of the model that it names itself.
        hardware: It must be of this device class.
        workload: It must cover what this workload can reach.
        engine: It must be of these settings; what they leave open is the bundle's.
        device_name: It must be of this very device.
        engine_from: The file or run directory of ``engine``, for the commands in messages.
        known: One of the bundles, where it was read before: it is not read again.

    Raises:
        InputError: There is no such bundle, several variants fit, or the root is Vidur's own tree.
    """
    root = Path(root)
    required = Requirements(model, hardware, workload, engine, device_name, engine_from)
    paths = find_bundles(root, required.model_name, required.hardware_name, engine, device_name)
    templates = Templates()
    found: list[Check] = []
    for path in paths:
        read = known if known is not None and known.path == path else None
        checks = Checker(path, registry, required, templates, _others(path, root), read).run()
        if len(paths) > 1:
            name = path.relative_to(root).as_posix()
            checks = [Check(f"{name}: {c.name}", c.status, c.detail) for c in checks]
        found += checks
    return found


check_bundle = check_root
"""The same, for a root or folder where one bundle is expected."""


def _others(path: Path, root: Path) -> list[Path]:
    """All bundles of the root that a bundle lies in; of its folder, where that is no root."""
    if not is_bundle(root):
        return [root / name for name in bundle_names(root)]
    # A bundle by itself: its root begins above <hardware>/<org>/<name>[/<variant>].
    here = path.resolve()
    others = [each for each in here.parent.iterdir() if each.is_dir() and is_bundle(each)]
    place = place_of(here)
    for above in here.parents[1:4] if place is not None else ():
        below = here.relative_to(above)
        if place in (below, below.parent):
            return [*others, *(above / name for name in bundle_names(above))]
    return others
