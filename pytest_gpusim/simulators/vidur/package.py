"""Whether the installed Vidur is one that these adapters were tried on."""

from __future__ import annotations

from pytest_gpusim.artifacts import package_version
from pytest_gpusim.errors import EngineError, require_package

SUPPORTED_VERSIONS = ("0.0.26",)


def require_vidur() -> str:
    """The installed version.

    Raises:
        EngineError: Vidur is not installed, or is of a version that was not tried.
    """
    require_package("vidur", "vidur", "simulating with Vidur")
    version = package_version("vidur") or "unknown"
    if version not in SUPPORTED_VERSIONS:
        raise EngineError(
            f"vidur {version} is not supported, only {', '.join(SUPPORTED_VERSIONS)}: "
            f"pip install vidur=={SUPPORTED_VERSIONS[-1]}"
        )
    return version
