"""Engine settings under vLLM's names: the one table, and reading it in every spelling."""

from pytest_gpusim.deployment.settings.defaults import Deployment, release_of
from pytest_gpusim.deployment.settings.lookup import (
    default,
    find,
    first_stated,
    flat,
    modelled,
    unmodelled,
)
from pytest_gpusim.deployment.settings.setting import SECTIONS, Setting, brief
from pytest_gpusim.deployment.settings.table import SETTINGS

__all__ = [
    "SECTIONS",
    "SETTINGS",
    "Deployment",
    "Setting",
    "brief",
    "default",
    "find",
    "first_stated",
    "flat",
    "modelled",
    "release_of",
    "unmodelled",
]
