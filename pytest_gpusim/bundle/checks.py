"""Whether a bundle can be trusted for what is asked: each finding with what mends it.

Needs neither an engine nor a simulator. `check_bundle` judges one bundle, `check_root` all below a
root.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pytest_gpusim.bundle import table_checks
from pytest_gpusim.bundle.layout import bundle_names, is_bundle, resolve_root
from pytest_gpusim.bundle.match import mismatches
from pytest_gpusim.bundle.reader import digest_tables, read_bundle_meta, read_bundle_tables
from pytest_gpusim.bundle.schema import ATTENTION, META, MLP, PER_SEQUENCE, Bundle
from pytest_gpusim.bundle.templates import copied_from
from pytest_gpusim.checks import Check, Status
from pytest_gpusim.errors import GpusimError, InputError, UsageError

if TYPE_CHECKING:
    from pytest_gpusim.deployment import EngineSettings, Hardware, ModelShape
    from pytest_gpusim.workload import Workload


class _HardwareNames(Protocol):
    def get(self, name: str) -> Hardware: ...

    def names(self) -> list[str]: ...


class KnowsHardware(Protocol):
    """A `pytest_gpusim.registry.Registry`, as far as it matters here."""

    @property
    def hardware(self) -> _HardwareNames:
        """Device classes by name."""


_COVERAGE_FAILS = 0.10
_LISTED = 3


def check_root(root: Path | str, *, registry: KnowsHardware) -> list[Check]:
    """Check every bundle below a root (or the root itself, where it is one).

    Names begin with the bundle's place in the root where there are several.
    """
    root = Path(root)
    names = [] if is_bundle(root) else bundle_names(root)
    if len(names) < 2:
        return check_bundle(root / names[0] if names else root, registry=registry)
    return [
        Check(f"{name}: {check.name}", check.status, check.detail)
        for name in names
        for check in check_bundle(root / name, registry=registry)
    ]


def check_bundle(
    root: Path | str,
    *,
    registry: KnowsHardware,
    model: ModelShape | None = None,
    hardware: Hardware | None = None,
    workload: Workload | None = None,
    engine: EngineSettings | None = None,
) -> list[Check]:
    """Check a bundle, and whether it is of what is asked and covers it.

    Args:
        root: The bundle, or a root below which `model` and `hardware` choose one; without them
            all bundles below the root are checked.
        registry: For the device class that the bundle names.
        model: It must be of this model.
        hardware: It must be of this device class.
        workload: It must cover what this workload can reach.
        engine: It must be of these settings; what they leave open is the bundle's.
    """
    root = Path(root)
    if not is_bundle(root) and (model is None or hardware is None) and len(bundle_names(root)) > 1:
        return check_root(root, registry=registry)
    try:
        path = root
        if not is_bundle(root):
            names = bundle_names(root)
            if (model is None or hardware is None) and len(names) == 1:
                path = root / names[0]
            else:
                path = resolve_root(
                    root, model.name if model else "MODEL", hardware.name if hardware else "cpu"
                )
    except InputError as error:
        return [Check("files", "fail", str(error))]
    return _Checker(path, registry).run(model, hardware, workload, engine)


class _Checker:
    """The checks of one bundle, in order; later ones need what earlier ones found whole."""

    def __init__(self, path: Path, registry: KnowsHardware) -> None:
        self.path = path
        self.registry = registry
        self.checks: list[Check] = []
        self.command = "gpusim profile"

    @property
    def fix(self) -> str:
        """What mends most things."""
        return f"make it again with '{self.command}'"

    def run(
        self,
        model: ModelShape | None,
        hardware: Hardware | None,
        workload: Workload | None,
        engine: EngineSettings | None,
    ) -> list[Check]:
        absent = [name for name in (META, MLP, ATTENTION) if not (self.path / name).is_file()]
        self._add("files", [f"no {name}" for name in absent], "all required files are there")
        if META in absent:
            return self.checks
        try:
            meta = read_bundle_meta(self.path)
        except GpusimError as error:
            self._status("metadata", "fail", str(error))
            return self.checks
        self.command = profile_command(meta)
        if absent:
            return self.checks
        bundle = self._read(meta)
        if bundle is None:
            return self.checks
        self._numbers(bundle)
        self._identity(bundle, model, hardware, engine)
        self._use(bundle, workload, engine)
        return self.checks

    def _read(self, meta: dict[str, Any]) -> Bundle | None:
        bundle, problems = read_bundle_tables(self.path, meta)
        if digest_tables(self.path) == meta["digest"]:
            self._status("digest", "pass", "the tables are those that were written")
        else:
            self._status(
                "digest",
                "fail",
                f"{self.path / META}: the tables were changed after they were written; {self.fix}",
            )
        if problems or bundle is None:
            self._status("tables", "fail", _listed([str(problem) for problem in problems]))
            return None
        try:
            shape = bundle.model_shape
        except (GpusimError, TypeError, KeyError) as error:
            self._status("metadata", "fail", f"{self.path / META}: model_shape: {error}")
            return None
        self._status("tables", "pass", "files and columns are complete, numbers are finite")
        where = f"{self.path}/"
        self._add(
            "metadata",
            [where + text for text in table_checks.block_size_findings(bundle)],
            f"{meta['model']} on {meta['hardware']} ({meta['device_name']})",
        )
        self._add(
            "tensor_parallel",
            [where + text for text in table_checks.tensor_parallel_findings(bundle)],
            f"degrees {meta['tensor_parallel_sizes']}",
        )
        self._add(
            "shape",
            [where + text for text in table_checks.shape_findings(bundle, shape)],
            "the tables' shape columns are the model's",
        )
        return bundle

    def _numbers(self, bundle: Bundle) -> None:
        where = f"{self.path}/"

        def judge(name: str, findings: Sequence[str], fine: str, status: Status = "fail") -> None:
            self._add(name, [where + text for text in findings], fine, status)

        judge("times", table_checks.time_findings(bundle), "all times of work are positive")
        repeated, contradicting = table_checks.duplicate_findings(bundle)
        if contradicting:
            judge("duplicates", contradicting, "")
        else:
            judge("duplicates", repeated, "every point is there once", "warn")
        judge(
            "outliers", table_checks.outlier_findings(bundle), "no point is far from its neighbours"
        )
        judge("monotone", table_checks.monotone_findings(bundle), "more work is not much cheaper")
        missing = _missing_sequence_operators(bundle)
        judge("sequence_operators", missing, "LM head and sampler are profiled", "warn")
        if bundle.overhead is None:
            text = (
                f"{self.path}: no overhead.csv: the engine's time per iteration is not counted; "
                f"{self.fix} where the source measures it"
            )
            self._status("overhead", "warn", text)
        else:
            self._status("overhead", "pass", "the engine's time per iteration is profiled")

    def _identity(
        self,
        bundle: Bundle,
        model: ModelShape | None,
        hardware: Hardware | None,
        engine: EngineSettings | None,
    ) -> None:
        differing = [
            f"{self.path / META}: {field}: {text}"
            for field, text in mismatches(bundle, model, hardware, engine)
        ]
        device = bundle.meta["device_name"]
        wanted = hardware or self._named_hardware(bundle)
        if wanted is not None and device and not wanted.matches(str(device)):
            differing.append(
                f"{self.path / META}: device_name {device!r} is not a {wanted.name} "
                f"(pattern {wanted.device_name_pattern})"
            )
        if engine is not None and engine.block_size not in (None, bundle.meta["block_size"]):
            differing.append(
                f"{self.path / META}: block_size: the bundle is of {bundle.meta['block_size']}, "
                f"asked for is {engine.block_size}"
            )
        asked = {
            **bundle.meta,
            "model": model.name if model is not None else bundle.meta["model"],
            "hardware": hardware.name if hardware is not None else bundle.meta["hardware"],
        }
        fix = f"profile what is asked with '{profile_command(asked)}'"
        self._add("match", differing, "it is of what is asked", fix=fix)
        version = engine.engine_version if engine is not None else None
        profiled = bundle.meta["engine_version"]
        if version and profiled and version != profiled:
            text = f"profiled with engine {profiled}, asked for is {version}; {self.fix}"
            self._status("engine_version", "warn", text)
        else:
            self._status("engine_version", "pass", f"engine {profiled or 'not stated'}")
        copies = copied_from(self.path, self._siblings(bundle))
        self._add(
            "template",
            [
                f"{self.path}: the times are those of {copy}, which is of another model or device"
                for copy in copies
            ],
            "no other bundle beside it has the same times",
        )

    def _use(
        self, bundle: Bundle, workload: Workload | None, engine: EngineSettings | None
    ) -> None:
        if workload is None:
            self._status("coverage", "skip", "no workload was given")
            return
        from pytest_gpusim.bundle.coverage import coverage

        try:
            settings = bundle.engine_settings
            settings = engine.merged(settings) if engine is not None else settings
            workload.require_fits(settings.max_model_len)
        except UsageError as error:
            self._status("workload_fits", "fail", str(error))
            return
        limits = ("max_num_seqs", "max_num_batched_tokens", "block_size")
        unknown = [key for key in limits if getattr(settings, key) is None]
        if unknown:
            text = (
                f"neither --engine nor the bundle states {', '.join(unknown)}; give --engine FILE"
            )
            self._status("coverage", "skip", text)
            return
        ranges = coverage(bundle, workload, settings)
        worst = max((each.share for each in ranges), default=0.0)
        status: Status = "fail" if worst > _COVERAGE_FAILS else "warn"
        found = [f"{self.path}/{each}" for each in ranges]
        fine = "all that the workload can reach is profiled"
        fix = f"lower the engine's limits, or profile larger sizes with '{self.command}'"
        self._add("coverage", found, fine, status, fix)

    def _named_hardware(self, bundle: Bundle) -> Hardware | None:
        name = str(bundle.meta["hardware"])
        return self.registry.hardware.get(name) if name in self.registry.hardware.names() else None

    def _siblings(self, bundle: Bundle) -> list[Path]:
        """All bundles of the root that this one lies in, by its own hardware and model."""
        place = Path(str(bundle.meta["hardware"])) / str(bundle.meta["model"])
        path = self.path.resolve()
        for candidate in (path, path.parent):  # with or without a folder for the variant
            if candidate.parts[-len(place.parts) :] == place.parts:
                root = candidate.parents[len(place.parts) - 1]
                return [root / name for name in bundle_names(root)]
        return []

    def _add(
        self,
        name: str,
        findings: Sequence[str],
        fine: str,
        status: Status = "fail",
        fix: str | None = None,
    ) -> None:
        if findings:
            self._status(name, status, f"{_listed(findings)}; {fix or self.fix}")
        else:
            self._status(name, "pass", fine)

    def _status(self, name: str, status: Status, detail: str) -> None:
        self.checks.append(Check(name, status, " ".join(detail.split())))


def profile_command(meta: dict[str, Any]) -> str:
    """The command that makes a bundle of this kind."""
    model, hardware = meta.get("model"), meta.get("hardware")
    options = {
        "vllm": f"--model {model} --hardware {hardware}",
        "llmservingsim": "DIR",
        "aiconfigurator": f"--model {model} --system SYSTEM",
        "vidur": f"DIR --model {model} --device {hardware}",
    }
    source = str(meta.get("source"))
    return f"gpusim profile {source} {options[source]}" if source in options else "gpusim profile"


def _missing_sequence_operators(bundle: Bundle) -> list[str]:
    if bundle.per_sequence is None:
        return [f"no {PER_SEQUENCE}: LM head and sampler are not counted"]
    known = set(bundle.per_sequence["operator"])
    return [
        f"{PER_SEQUENCE}: no rows of {name}, which is then not counted"
        for name in ("lm_head", "sampler")
        if name not in known
    ]


def _listed(findings: Sequence[str]) -> str:
    more = len(findings) - _LISTED
    return "; ".join(findings[:_LISTED]) + (f"; and {more} more" if more > 0 else "")
