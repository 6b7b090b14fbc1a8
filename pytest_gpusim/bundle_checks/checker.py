"""The checks of one bundle: each finding with what mends it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.bundle.commands import profile_command
from pytest_gpusim.bundle.layout import unchecked_meta
from pytest_gpusim.bundle.match import asked_meta, mismatches, shape_mismatches
from pytest_gpusim.bundle.metadata import identity_findings, read_bundle_meta
from pytest_gpusim.bundle.reader import digest_tables, read_bundle_tables
from pytest_gpusim.bundle.schema import ATTENTION, META, MLP, PER_SEQUENCE, Bundle
from pytest_gpusim.bundle_checks import shape_checks, table_checks
from pytest_gpusim.bundle_checks.requirements import Requirements
from pytest_gpusim.bundle_checks.templates import Templates
from pytest_gpusim.checks import Check, Status
from pytest_gpusim.deployment.resolution import with_defaults
from pytest_gpusim.errors import GpusimError, InputError

if TYPE_CHECKING:
    from pytest_gpusim.deployment import EngineSettings, Hardware, ModelShape
    from pytest_gpusim.registry import Registry

_COVERAGE_FAILS = 0.10
_LISTED = 3


class Checker:
    """The checks of one bundle, in order; later ones need what earlier ones found whole.

    Args:
        path: The bundle.
        registry: For the device class and the model that the bundle names.
        required: What it must be of and must cover.
        templates: Shared by the bundles that are checked together.
        others: The bundles beside it.
        known: It, where it was read before.
    """

    def __init__(
        self,
        path: Path,
        registry: Registry,
        required: Requirements,
        templates: Templates,
        others: Sequence[Path],
        known: Bundle | None = None,
    ) -> None:
        self.path = path
        self.known = known
        self.registry = registry
        self.required = required
        self.templates = templates
        self.others = others
        self.checks: list[Check] = []
        self.meta: dict[str, Any] = unchecked_meta(path) or {
            "model": required.model_name,
            "hardware": required.hardware_name,
        }

    @cached_property
    def digest(self) -> str:
        """Of the tables' files as they are."""
        return digest_tables(self.path)

    @property
    def command(self) -> str:
        """The command that makes this bundle again."""
        return profile_command(self.meta, self.required.engine_from)

    @property
    def fix(self) -> str:
        """What mends most things."""
        return f"make it again with '{self.command}'"

    def run(self) -> list[Check]:
        """All findings, the good ones too."""
        absent = [name for name in (META, MLP, ATTENTION) if not (self.path / name).is_file()]
        missing = [f"{self.path}: no {name}" for name in absent]
        self._add("files", missing, "all required files are there")
        if META in absent:
            return self.checks
        try:
            self.meta = read_bundle_meta(self.path)
        except GpusimError as error:
            self._status("metadata", "fail", str(error))
            return self.checks
        if absent:
            return self.checks
        bundle = self._read()
        if bundle is None:
            return self.checks
        self._guarded("times", lambda: self._numbers(bundle))
        self._guarded("match", lambda: self._identity(bundle))
        self._guarded("coverage", lambda: self._use(bundle))
        return self.checks

    def _read(self) -> Bundle | None:
        meta = self.meta
        problems: list[InputError] = []
        bundle = self.known
        if bundle is None:
            bundle, problems = read_bundle_tables(self.path, meta)
        if problems or bundle is None:
            # One of them suffices: they end in the same command.
            self._status("tables", "fail", _listed([str(problem) for problem in problems]))
            self._digest()
            return None
        try:
            shape = bundle.model_shape
        except GpusimError as error:
            self._status("metadata", "fail", f"{error}; {self.fix}")
            return None
        where = f"{self.path}/"
        self._status("tables", "pass", "files and columns are complete, numbers are finite")
        self._digest()
        metadata = [*identity_findings(meta), *shape_checks.block_size_findings(bundle)]
        fine = f"{meta['model']} on {meta['hardware']} ({meta['device_name']})"
        self._add("metadata", [where + text for text in metadata], fine)
        degrees = shape_checks.tensor_parallel_findings(bundle)
        fine = f"degrees {meta['tensor_parallel_sizes']}"
        self._add("tensor_parallel", [where + text for text in degrees], fine)
        shapes = shape_checks.shape_findings(bundle, shape)
        fine = "the tables' shape columns are the model's"
        self._add("shape", [where + text for text in shapes], fine)
        return bundle

    def _digest(self) -> None:
        if self.digest == self.meta["digest"]:
            self._status("digest", "pass", "the tables are those that were written")
        else:
            text = "digest: the tables were changed after they were written"
            self._status("digest", "fail", f"{self.path / META}: {text}; {self.fix}")

    def _numbers(self, bundle: Bundle) -> None:
        where = f"{self.path}/"

        def judge(name: str, findings: Sequence[str], fine: str, status: Status = "fail") -> None:
            self._add(name, [where + text for text in findings], fine, status)

        # Vidur's own profiles lack operators of newer models, and the source says so.
        zeros, lacking = table_checks.zero_findings(bundle), self.meta["source"] == "vidur"
        times = table_checks.time_findings(bundle)
        judge("times", times if lacking else [*times, *zeros], "all times of work are positive")
        repeated, contradicting = table_checks.duplicate_findings(bundle)
        if contradicting:
            judge("duplicates", contradicting, "")
        else:
            judge("duplicates", repeated, "every point is there once", "warn")
        outliers, falls = table_checks.series_findings(bundle, self.digest)
        judge("outliers", outliers, "no point is far from its neighbours")
        judge("monotone", falls, "more work is not much cheaper")
        missing = _missing_sequence_operators(bundle)
        judge("sequence_operators", missing, "LM head and sampler are profiled", "warn")
        distrusted = [str(text) for text in self.meta.get("distrusted") or []]
        judge("source_tables", distrusted, "its source does not contradict itself", "warn")
        if lacking:
            judge("layer_operators", zeros, "no operator is left out", "warn")
        if bundle.overhead is None or bundle.overhead.empty:
            what = "no overhead.csv" if bundle.overhead is None else "overhead.csv has no rows"
            text = f"{self.path}: {what}: the engine's time per iteration is not counted"
            # Of the sources only a live engine and some of Vidur's own profiles have it.
            meta = {**self.meta, "source": "vllm"} if self.meta["source"] != "vidur" else self.meta
            command = profile_command(meta, self.required.engine_from)
            text += f"; it is with '{command}', 'gpusim calibrate' or --engine-time"
            self._status("overhead", "warn", text)
        else:
            self._status("overhead", "pass", "the engine's time per iteration is profiled")

    def _identity(self, bundle: Bundle) -> None:
        meta, engine = self.meta, self.required.engine
        found = mismatches(
            bundle, self.required.model, self.required.hardware, engine, self.required.device_name
        )
        known = self._named_model()
        if self.required.model is None and known is not None:
            found += shape_mismatches(bundle, known)
        if engine is not None and engine.block_size not in (None, meta["block_size"]):
            text = f"the bundle is of {meta['block_size']}, asked for is {engine.block_size}"
            found.append(("block_size", text))
        wanted, device = self.required.hardware or self._named_hardware(), meta["device_name"]
        if wanted is not None and device and not wanted.matches(device):
            pattern = f"is not of the class {wanted.name} (pattern {wanted.device_name_pattern})"
            found.append(("device_name", f"{device!r} {pattern}"))
        differing = [f"{self.path / META}: {field}: {text}" for field, text in found]
        asked = asked_meta(
            meta,
            model=self.required.model_name,
            hardware=self.required.hardware_name,
            engine=engine,
        )
        fix = f"profile what is asked with '{profile_command(asked, self.required.engine_from)}'"
        self._add("match", differing, "it is of what is asked", fix=fix)
        self._version(engine)
        copies = [
            f"{self.path}: the times are those of {copy}, which is of another model or device"
            for copy in self.templates.copied_from(self.path, self.others)
        ]
        self._add("template", copies, "no other bundle beside it has the same times")

    def _version(self, engine: EngineSettings | None) -> None:
        version = engine.engine_version if engine is not None else None
        profiled = self.meta["engine_version"]
        if version and profiled and version != profiled:
            text = f"profiled with engine {profiled}, asked for is {version}; {self.fix}"
            self._status("engine_version", "warn", text)
        else:
            self._status("engine_version", "pass", f"engine {profiled or 'not stated'}")

    def _use(self, bundle: Bundle) -> None:
        workload, engine = self.required.workload, self.required.engine
        if workload is None:
            self._status("coverage", "skip", "no workload was given")
            return
        from pytest_gpusim.bundle_checks.coverage import coverage

        settings = bundle.engine_settings
        settings = engine.merged(settings) if engine is not None else settings
        hardware = self.required.hardware or self._named_hardware()
        if hardware is not None:
            # A simulation takes the release's defaults for what nobody states.
            shape = self.required.model or bundle.model_shape
            settings = with_defaults(settings, model=shape, hardware=hardware)
        try:
            workload.require_fits(settings.max_model_len)
        except GpusimError as error:
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
        worst = max((each.share for each in ranges if each.severe), default=0.0)
        status: Status = "fail" if worst > _COVERAGE_FAILS else "warn"
        ranges.sort(key=lambda each: -each.share)
        found = [f"{self.path}/{each}" for each in ranges]
        fine = "all that the workload can reach is profiled"
        fix = f"lower the engine's limits, or profile larger sizes with '{self.command}'"
        self._add("coverage", found, fine, status, fix)

    def _named_hardware(self) -> Hardware | None:
        name = self.meta["hardware"]
        known = self.registry.hardware
        return known.get(name) if name in known.names() else None

    def _named_model(self) -> ModelShape | None:
        name = self.meta["model"]
        known = self.registry.models
        return known.get(name) if name in known.names() else None

    def _guarded(self, name: str, judge: Callable[[], None]) -> None:
        """What the metadata let slip is a finding, too, and the other checks go on."""
        try:
            judge()
        except GpusimError as error:
            self._status(name, "fail", f"{error}; {self.fix}")

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
