"""Where the tables of AIConfigurator's package lie: by system, framework and release."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from pytest_gpusim.errors import InputError, UsageError, meant, require_package

PACKAGE = "aiconfigurator_core"
_ALL_REDUCE = "custom_allreduce_perf.parquet"


@dataclass(frozen=True)
class SiliconFiles:
    """The files of one system and framework release.

    Attributes:
        root: The package's ``systems`` folder.
        system: Such as ``a100_sxm``.
        framework: Such as ``vllm``.
        version: The framework's release; of the collectives, the nearest earlier one that there is.
    """

    root: Path
    system: str
    framework: str
    version: str

    @classmethod
    def find(cls, system: str, framework: str, version: str | None) -> Self:
        """Those of a system; ``version`` None: the newest release with products and attention.

        Raises:
            EngineError: The package is not installed.
            UsageError: No such system, framework or release; names those that there are.
        """
        require_package(PACKAGE, "silicon", "gpusim profile aiconfigurator")
        require_package("pyarrow", "silicon", "gpusim profile aiconfigurator")
        spec = find_spec(PACKAGE)
        assert spec is not None
        assert spec.submodule_search_locations
        root = Path(next(iter(spec.submodule_search_locations))) / "systems"
        systems = sorted(
            path.stem for path in root.glob("*.yaml") if (root / "data" / path.stem).is_dir()
        )
        if system not in systems:
            hint = meant(system, systems)
            raise UsageError(f"--system {system}{hint}: known are {', '.join(systems)}")
        products, attention = (root / "data" / system / family for family in ("gemm", "attention"))
        frameworks = sorted(path.name for path in products.glob("*"))
        if framework not in frameworks:
            have = ", ".join(frameworks) or "none"
            with_it = [
                each for each in systems if (root / "data" / each / "gemm" / framework).is_dir()
            ]
            others = f"; systems that have it: {', '.join(with_it)}" if with_it else ""
            raise UsageError(f"--framework {framework}: {system} has {have}{others}")
        complete = [
            path.name
            for path in _releases(products / framework)
            if (attention / framework / path.name / "context_attention_perf.parquet").is_file()
        ]
        if version is None and complete:
            version = complete[-1]
        if version not in complete:
            have = ", ".join(complete) or "none"
            raise UsageError(f"--version {version}: {system} {framework} has {have}")
        return cls(root, system, framework, version)

    @cached_property
    def spec(self) -> Mapping[str, Any]:
        """The system's own figures (``<system>.yaml``)."""
        import yaml

        document: Mapping[str, Any] = yaml.safe_load(
            (self.root / f"{self.system}.yaml").read_text(encoding="utf-8")
        )
        return document

    @property
    def where(self) -> str:
        """What these tables are of, for messages."""
        return f"aiconfigurator {self.system} {self.framework} {self.version}"

    def table(self, family: str, name: str) -> Path:
        """A table of this release, such as one of ``gemm``.

        Raises:
            InputError: There is none; names the releases that have it.
        """
        folder = self._folder(family, self.framework)
        exact = folder / self.version / name
        if exact.is_file():
            return exact
        known = ", ".join(path.parent.name for path in _tables(folder, name)) or "none"
        raise InputError(exact, "", f"no such table; releases that have it: {known}")

    def all_reduce(self) -> Path | None:
        """Of the framework's own all-reduce: of this release, else of the nearest earlier one."""
        folder = self._folder("comm", self.framework)
        exact = folder / self.version / _ALL_REDUCE
        if exact.is_file():
            return exact
        ours, found = _order(self.version), _tables(folder, _ALL_REDUCE)
        earlier = [path for path in found if _order(path.parent.name) <= ours]
        return earlier[-1] if earlier else None

    def fused_all_reduce(self) -> Path | None:
        """Of TensorRT-LLM's all-reduce: of the newest release."""
        found = _tables(self._folder("comm", "trtllm"), _ALL_REDUCE)
        return found[-1] if found else None

    def nccl(self) -> Path:
        """Of NCCL's collectives: of the newest release.

        Raises:
            InputError: There is none.
        """
        folder = self._folder("comm", "nccl")
        found = _tables(folder, "nccl_perf.parquet")
        if not found:
            raise InputError(folder, "", "no table of collectives for this system")
        return found[-1]

    def _folder(self, family: str, of: str) -> Path:
        return self.root / str(self.spec["data_dir"]) / family / of


def _tables(folder: Path, name: str) -> list[Path]:
    """The releases' tables of a name, oldest first."""
    return [path / name for path in _releases(folder) if (path / name).is_file()]


def _releases(folder: Path) -> list[Path]:
    return sorted((p for p in folder.glob("*") if p.is_dir()), key=lambda path: _order(path.name))


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))
