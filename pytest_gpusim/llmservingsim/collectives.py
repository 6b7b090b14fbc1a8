"""What collective operations between GPUs cost on a link of known latency and bandwidth.

Two ranks exchange their tensors once. Below 8 MiB vLLM's own kernel does, which always takes its
one-stage path for two (``custom_all_reduce.cuh``; ``custom_all_reduce.py`` has the limit); above,
NCCL's ring of two sends slices of both phases without a gap, so that its second latency is hidden
as well. Between more ranks, which that kernel serves over NVLink only, an all-reduce is a ring as
in NCCL's and ASTRA-sim's analytical models: n - 1 hops per phase, each moving 1/n of the tensor; an
all-reduce is two phases, an all-gather one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.errors import InputError, shortly

if TYPE_CHECKING:
    import pandas as pd

_MOST = 1e12


@dataclass(frozen=True)
class Link:
    """A link between two devices: ``latency_ns`` per hop, ``bytes_per_ns`` (1 GB/s is 1)."""

    latency_ns: float
    bytes_per_ns: float

    def all_reduce_ns(self, size_bytes: float, workers: int) -> float:
        """Time to sum a tensor of ``size_bytes`` that each of ``workers`` devices holds."""
        if workers == 2:
            return self.latency_ns + size_bytes / self.bytes_per_ns
        return 2 * self._phase_ns(size_bytes, workers)

    def all_gather_ns(self, size_bytes: float, workers: int) -> float:
        """Time until each device holds all of a tensor of ``size_bytes``, sharded before."""
        return self._phase_ns(size_bytes, workers)

    def _phase_ns(self, size_bytes: float, workers: int) -> float:
        hops = workers - 1
        return hops * (self.latency_ns + size_bytes / workers / self.bytes_per_ns)


def link_from_cluster(cluster: Mapping[str, Any], path: Path) -> Link | None:
    """The link that a ``cluster.json`` states (``link_bw`` GB/s, ``link_latency`` ns), or None."""
    bandwidth, latency = cluster.get("link_bw"), cluster.get("link_latency")
    if isinstance(bandwidth, list):  # one entry per dimension of the topology, the innermost first
        bandwidth = bandwidth[0] if bandwidth else None
    if isinstance(latency, list):
        latency = latency[0] if latency else None
    if bandwidth is None:
        return None
    for key, value, least in (("link_bw", bandwidth, 1e-9), ("link_latency", latency or 0, 0)):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not least <= value < _MOST:
            raise InputError(path, key, f"expected a positive number, found {shortly(value)}")
    return Link(float(latency or 0), float(bandwidth))


def all_reduce_table(link: Link, workers: int, max_bytes: int) -> pd.DataFrame:
    """``all_reduce.csv`` of one degree: sizes by powers of two, up to ``max_bytes``."""
    import pandas as pd

    from pytest_gpusim.bundle.schema import TP

    sizes, size = [0], 256
    while size < max_bytes:
        sizes.append(size)
        size *= 2
    sizes.append(size)
    return pd.DataFrame(
        {
            TP: workers,
            "size_bytes": sizes,
            "time_ns": [round(link.all_reduce_ns(size, workers)) for size in sizes],
        }
    )
