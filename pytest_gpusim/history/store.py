"""Reading and appending a history's files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gpusim.artifacts import atomic_file, new_id
from pytest_gpusim.compare.document import ComparisonDocument
from pytest_gpusim.compare.judging.equivalence import RunSpread
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.history.entry import Entry, entries_of
from pytest_gpusim.json_documents import check_schema_version, parse_json
from pytest_gpusim.limits import DOCUMENT_BYTES
from pytest_gpusim.texts import read_text_within

if TYPE_CHECKING:
    from pytest_gpusim.runs import Run


@dataclass(frozen=True)
class History:
    """A history as read: entries in order of time."""

    directory: Path
    entries: tuple[Entry, ...]

    @classmethod
    def read(cls, directory: Path | str) -> History:
        """Read every file of a directory; one that does not exist yet is an empty history.

        Raises:
            InputError: A line cannot be read.
            UsageError: It is no directory.
        """
        directory = Path(directory)
        if directory.exists() and not directory.is_dir():
            raise UsageError(f"history {directory}: exists and is not a directory")
        found = {entry for path in sorted(directory.glob("*.jsonl")) for entry in _lines(path)}
        return cls(
            directory, tuple(sorted(found, key=lambda one: (one.time, one.case, one.figure)))
        )

    def append(
        self, documents: Sequence[ComparisonDocument], tests: Sequence[str] = ()
    ) -> tuple[Entry, ...]:
        """Append comparisons, in a file of their own; what was appended.

        Args:
            documents: The comparisons.
            tests: The id of the test that made each, where tests did.

        Raises:
            UsageError: The directory cannot be written.
        """
        session = new_id("session")
        ids = tests or [""] * len(documents)
        made = [
            entry
            for document, test in zip(documents, ids, strict=True)
            for entry in entries_of(document, session=session, test=test)
        ]
        text = "".join(json.dumps(entry.to_json(), allow_nan=False) + "\n" for entry in made)
        with atomic_file(self.directory / f"{session}.jsonl") as partial:
            partial.write_text(text, encoding="utf-8")
        return tuple(made)

    def spreads(self, real: Sequence[Run]) -> dict[str, RunSpread]:
        """Spread between earlier real runs, by figure: same model, device, engine and workload.

        Variances are pooled by degrees of freedom. A recording that was replayed again is the same
        runs and counts once, however many of them a comparison had; what ``real`` itself holds does
        not count.
        """
        from pytest_gpusim.runs.identity import run_digest

        meta = real[0].meta
        engine = dict(meta.get("engine") or {})
        eager = engine.get("enforce_eager")
        mode = "unknown mode" if eager is None else "eager" if eager else "compiled"
        wanted = (
            meta.get("model"),
            meta.get("device_name"),
            f"{engine.get('engine_version') or 'unknown version'} {mode}",
            meta.get("workload_digest"),
        )
        if None in wanted:
            return {}
        mine = {run_digest(run) for run in real}
        seen: dict[str, set[str]] = {}
        sums: dict[str, tuple[float, int]] = {}
        for entry in sorted(self.entries, key=lambda one: -one.num_runs):
            digests = frozenset(entry.run_digests)
            of = (entry.model, entry.device, entry.engine, entry.workload_digest)
            if of != wanted or digests & mine:
                continue
            counted = seen.setdefault(entry.figure, set())
            more = min(entry.num_runs, len(digests)) - 1
            if entry.run_sd is None or more < 1 or digests & counted:
                continue
            counted |= digests
            squares, dof = sums.get(entry.figure, (0.0, 0))
            sums[entry.figure] = (squares + entry.run_sd**2 * more, dof + more)
        return {name: RunSpread(squares / dof, dof) for name, (squares, dof) in sums.items()}


def _lines(path: Path) -> Iterable[Entry]:
    text = read_text_within(path, DOCUMENT_BYTES)
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        where = f"line {number}"
        document = parse_json(line, path, where)
        if not isinstance(document, dict):
            raise InputError(path, where, "expected a JSON object")
        check_schema_version(path, document)
        yield Entry.from_json(document, path, where)
