"""``cluster.json``: the machine as the other simulator was told of it, in any of its forms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.json_documents import read_json
from pytest_gpusim.llmservingsim.collectives import Link, link_from_cluster
from pytest_gpusim.llmservingsim.profile_folder import mapping

_MOST = {"mem_size": 1e6, "mem_util": 1.0}


@dataclass(frozen=True)
class Cluster:
    """A machine, as far as it is stated.

    Attributes:
        path: The file.
        document: Its content; empty where there is none.
        instances: The serving instances of all its nodes.
        notes: What could not be used.
    """

    path: Path
    document: Mapping[str, Any]
    instances: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> Mapping[str, Any]:
        """The first instance; empty where there is none."""
        return self.instances[0] if self.instances else {}

    def memory(self, key: str) -> float | None:
        """A number of the first instance's ``npu_mem``, positive; None where it is not stated."""
        value = mapping(self.first.get("npu_mem")).get(key)
        if value is None:
            return None
        number = as_number(value)
        most = _MOST.get(key, math.inf)
        if number is None or not 0 < number <= most:
            raise InputError(
                self.path,
                f"npu_mem.{key}",
                f"expected a positive number of at most {most:g}, found {value!r}",
            )
        return number

    def degree(self) -> int:
        """The tensor-parallel degree of the first instance; 1 where it is not stated."""
        for key in ("tp_size", "num_npus"):
            number = as_number(self.first.get(key))
            if number is not None and number >= 1:
                return int(number)
        return 1

    def link(self) -> Link:
        """The link between the GPUs, wherever in the file it stands.

        Raises:
            InputError: None is stated.
        """
        places = [self.document, *_nodes(self.document), *self.instances]
        for place in places:
            link = link_from_cluster(place, self.path)
            if link is not None:
                return link
        raise InputError(
            self.path,
            "link_bw",
            "is not stated, and the run is of several GPUs",
            "state link_bw (GB/s) and link_latency (ns per hop)",
        )


def read_cluster(path: Path) -> Cluster:
    """Read ``cluster.json``; without one, nothing is stated."""
    document = read_json(path) if path.is_file() else {}
    if not isinstance(document, Mapping):
        return Cluster(path, {}, (), (f"{path.name} is no object and is not read",))
    nodes = _nodes(document)
    instances = [each for node in nodes for each in _entries(node.get("instances"), "npu_mem")]
    return Cluster(path, document, tuple(instances))


def require_one_engine(cluster: Cluster, data_parallel: Any) -> list[str]:
    """Refuse a cluster of several engines, unless the run says that it was one; returns notes."""
    roles = {str(i["pd_type"]) for i in cluster.instances if i.get("pd_type")}
    if len(cluster.instances) < 2:
        words = f"pd_type {', '.join(roles)} of one engine is ignored"
        return [f"{cluster.path.name}: {words}"] if roles else []
    number = len(cluster.instances)
    if roles:
        raise UsageError(f"{cluster.path}: pd_type: prefill and decode engines are not modelled")
    if data_parallel is None:
        raise UsageError(f"{cluster.path}: instances: {number} engines are not modelled")
    return [f"{cluster.path.name} has {number} instances, the run was of one engine"]


def as_number(value: Any) -> float | None:
    """A finite number, or a text that is one; else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _nodes(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return _entries(document.get("nodes"), "instances")


def _entries(value: Any, key: str) -> list[Mapping[str, Any]]:
    """The mappings of a list, of a mapping by names, or the one mapping that has ``key``."""
    if isinstance(value, Mapping):
        value = [value] if key in value else list(value.values())
    entries = value if isinstance(value, list) else []
    return [entry for entry in entries if isinstance(entry, Mapping)]
