"""Profile bundles: what a simulator knows of a model on a device."""

from pytest_gpusim.bundle.layout import resolve_root
from pytest_gpusim.bundle.reader import read_bundle
from pytest_gpusim.bundle.schema import Bundle
from pytest_gpusim.bundle.skew import SkewFit
from pytest_gpusim.bundle.writer import write_bundle

__all__ = ["Bundle", "SkewFit", "read_bundle", "resolve_root", "write_bundle"]
