"""AIConfigurator's measured kernel times (package ``aiconfigurator-core``), read as plain tables.

The package ships, per system and framework release, latencies in ms of matrix products (m, n, k),
of attention (batch, length, heads, key heads, head_dim) and of collectives (elements). Between
measured sizes we interpolate along the tables' own dimensions; outside them nothing is made up.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gpusim.deployment.quantization import weight_bytes
from pytest_gpusim.errors import UsageError
from pytest_gpusim.profiling.silicon_files import SiliconFiles
from pytest_gpusim.profiling.silicon_rows import (
    Contradictions,
    bracket,
    rows_with,
    with_longer_contexts,
    without_contradictions,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

PLAIN = "bfloat16"
"""The dtype of what is not quantized: the one that is measured of everything."""
# Rows of other variants than the plain one that a decoder runs.
_DECODER = {"beam_width": 1, "window_size": 0, "attn_dtype": PLAIN}


class SiliconTables(SiliconFiles):
    """The tables of one system and framework release."""

    @cached_property
    def device_name(self) -> str:
        """The device that was measured, by its own name."""
        return str(self._gemm(PLAIN)["device"].iloc[0])

    def memory_ms(self, num_bytes: float, *, kernel: bool = True) -> float:
        """Time to move bytes through the device's memory, by AIConfigurator's own rule.

        ``bytes / (bandwidth * empirical factor)``, plus a constant for a kernel of its own.
        """
        gpu = self.spec["gpu"]
        rate = gpu["mem_bw"] * gpu.get("mem_bw_empirical_scaling_factor", 1.0)
        constant = gpu.get("mem_empirical_constant_latency", 0.0) if kernel else 0.0
        return float(1e3 * (num_bytes / rate + constant))

    def reading_ms(self, num_bytes: float) -> float:
        """Least time to read bytes: at the data sheet's rate.

        A kernel that is measured alone finds weights and KV cache in the device's cache, where they
        fit; in an engine the other layers' have displaced them.
        """
        return float(1e3 * num_bytes / self.spec["gpu"]["mem_bw"])

    def gemm_ms(self, n: int, k: int, dtype: str = PLAIN) -> tuple[list[int], list[float]]:
        """(m, time) of the product of an m x k with a k x n matrix, for all measured m.

        Between measured n and k by bilinear interpolation, at each m. ``dtype`` is ``bfloat16`` or
        a scheme of quantization, whose times include quantizing the m x k matrix.

        Raises:
            UsageError: n or k lies outside the measured sizes, or nothing was measured so.
        """
        import numpy as np

        table = self._gemm(dtype)
        ns, ks = sorted(table["n"].unique()), sorted(table["k"].unique())
        corners = [
            (wn * wk, a, b)
            for wn, a in bracket(n, ns, f"{self.where} gemm: n")
            for wk, b in bracket(k, ks, f"{self.where} gemm: k")
            if wn * wk
        ]
        indexed = self._gemm_by_shape(dtype)
        sizes: set[int] | None = None
        for _, a, b in corners:
            if (a, b) not in indexed:
                raise UsageError(
                    f"{self.where} gemm: {n} x {k} needs the measured shape {a} x {b}, which the "
                    "table leaves out"
                )
            known = set(indexed[a, b].index)
            sizes = known if sizes is None else sizes & known
        ms = sorted(sizes or ())
        total = np.zeros(len(ms))
        for weight, a, b in corners:
            total += weight * indexed[a, b].reindex(ms).to_numpy()
        total = np.maximum(
            total, self.reading_ms(n * k * (2 if dtype == PLAIN else weight_bytes(dtype)))
        )
        return [int(m) for m in ms], [float(t) for t in total]

    def wide_gemm_ms(self, n: int, k: int) -> tuple[list[int], list[float], int]:
        """`gemm_ms` for any n: beyond the widest measured product as so many of that width.

        Also returns the width that was looked up.
        """
        widest = int(self._gemm(PLAIN)["n"].max())
        if n <= widest:
            return *self.gemm_ms(n, k), n
        ms, times = self.gemm_ms(widest, k)
        return ms, [time * n / widest for time in times], widest

    def prefill_ms(
        self, heads: int, kv_heads: int, head_dim: int, kv_cache_dtype: str = PLAIN
    ) -> tuple[pd.Series, str]:
        """Time by length of a single prompt's attention in one layer, and the kernel's name."""
        frame, kernel = self._attention("context", heads, kv_heads, head_dim, kv_cache_dtype)
        single = frame[frame["batch_size"] == 1]
        mended, _ = without_contradictions(single.groupby("isl")["latency"].median().to_frame())
        return mended["latency"], kernel

    def decode_ms(
        self, heads: int, kv_heads: int, head_dim: int, kv_cache_dtype: str = PLAIN
    ) -> tuple[pd.DataFrame, str]:
        """Rows of ``sequences, context, time_ms`` of one layer, and the kernel's name.

        Each number of sequences has contexts as long as one sequence has (`with_longer_contexts`).
        """
        frame, kernel = self._attention("generation", heads, kv_heads, head_dim, kv_cache_dtype)
        medians = frame.groupby(["batch_size", "step"])["latency"].median()
        mended, _ = without_contradictions(medians.unstack("step"))
        rows = with_longer_contexts(mended).stack().dropna().reset_index()
        rows = rows.set_axis(["sequences", "context", "time_ms"], axis=1)
        numbers = 2 * kv_heads * head_dim * (1 if kv_cache_dtype == "fp8" else 2)
        least = self.reading_ms(1.0) * numbers * rows["sequences"] * rows["context"]
        return rows.assign(time_ms=rows["time_ms"].clip(lower=least)), kernel

    def collective_ms(self, operation: str, workers: int) -> tuple[np.ndarray, np.ndarray]:
        """(bytes, time) of ``all_reduce`` (the framework's own, else NCCL's) or ``all_gather``."""
        own = self.all_reduce() if operation == "all_reduce" else None
        return self._collective(own or self.nccl(), operation, workers)

    def fused_all_reduce_ms(self, workers: int) -> tuple[np.ndarray, np.ndarray] | None:
        """(bytes, time) of TensorRT-LLM's all-reduce, without a norm; None where there is none.

        FlashInfer's ``trtllm_allreduce_fusion``, which vLLM runs for an all-reduce and the norm
        after it, is that kernel.
        """
        path = self.fused_all_reduce()
        return self._collective(path, "all_reduce", workers) if path else None

    def _collective(
        self, path: Path, operation: str, workers: int
    ) -> tuple[np.ndarray, np.ndarray]:
        import pandas as pd

        frame = pd.read_parquet(path)
        frame = frame[frame["op_name"] == operation]
        for column, wanted in (("nccl_dtype", "half"), ("allreduce_dtype", PLAIN)):
            if column in frame.columns:
                frame = frame[frame[column] == wanted]
        if "backend" in frame.columns:  # as captured in a CUDA graph, which is how it is run
            frame = frame[frame["backend"].str.endswith("graph")]
        where = f"{self.where} {operation}"
        series = (
            rows_with(frame, "num_gpus", workers, where).groupby("message_size")["latency"].median()
        )
        # Sizes are counted in elements of two bytes.
        return 2 * series.index.to_numpy(), series.to_numpy()

    @property
    def sm_version(self) -> int | None:
        """Compute capability of the device, such as 90; None for one of another maker's."""
        version = self.spec["gpu"].get("sm_version")
        return None if version is None else int(version)

    @property
    def narrowest(self) -> int:
        """The least n of the plain products."""
        return int(self._gemm(PLAIN)["n"].min())

    def block_gemm_ms(self, n: int, k: int) -> tuple[list[int], list[float]]:
        """`gemm_ms` of fp8 in blocks, with what the host takes to launch it taken out.

        The collector runs these products, and no others, without a CUDA graph (``collector/vllm/
        collect_gemm.py: use_cuda_graph``), so a small one takes as long as its launches, 60 to 180
        us. Where the product with one scale a tensor, which was measured in a graph and reads as
        many bytes, takes less than the least of them with so many rows, it stands for it.
        """
        rows, times = self.gemm_ms(n, k, "fp8_block")
        one_scale = dict(zip(*self.gemm_ms(n, k, "fp8"), strict=True))
        launches = self._gemm("fp8_block").groupby("m")["latency"].min()
        return rows, [
            time if one_scale.get(m, time) > launches[m] else min(time, one_scale.get(m, time))
            for m, time in zip(rows, times, strict=True)
        ]

    def quantize_ms(self, k: int) -> tuple[list[int], list[float]]:
        """(m, time) of quantizing an m x k matrix to fp8 by a scale that is known."""
        frame = self._read("quantize", "scale_matrix_perf.parquet")
        frame = frame[frame["quant_dtype"] == "fp8"]
        known = sorted(frame["k"].unique())
        medians = frame.groupby(["k", "m"])["latency"].median()
        parts = [
            weight * medians[size]
            for weight, size in bracket(k, known, f"{self.where} quantize: k")
            if weight
        ]
        total = sum(parts[1:], parts[0]).dropna()
        return [int(m) for m in total.index], [float(t) for t in total]

    def moe_rows(self) -> pd.DataFrame:
        """All measured times of routed experts, and the router's table with them."""
        return self._read("moe", "moe_perf.parquet")

    def _gemm(self, dtype: str) -> pd.DataFrame:
        frame = self._read("gemm", "gemm_perf.parquet")
        found = frame[frame["gemm_dtype"] == dtype]
        if found.empty:
            known = ", ".join(sorted(frame["gemm_dtype"].unique()))
            raise UsageError(f"{self.where} gemm: has no {dtype} products, only {known}")
        return found

    def product_contradictions(self, dtype: str = PLAIN) -> Contradictions:
        """How many products of a dtype take far longer than products of more rows."""
        self._gemm_by_shape(dtype)
        return self._contradictions[dtype]

    def _gemm_by_shape(self, dtype: str) -> dict[tuple[int, int], pd.Series]:
        if dtype not in self._indexed:
            medians = self._gemm(dtype).groupby(["n", "k", "m"])["latency"].median()
            by_rows, self._contradictions[dtype] = without_contradictions(
                medians.unstack("m").transpose()
            )
            self._indexed[dtype] = {
                (int(n), int(k)): by_rows[n, k].dropna() for n, k in by_rows.columns
            }
        return self._indexed[dtype]

    @cached_property
    def _contradictions(self) -> dict[str, Contradictions]:
        return {}

    @cached_property
    def _indexed(self) -> dict[str, dict[tuple[int, int], pd.Series]]:
        return {}

    @cached_property
    def _frames(self) -> dict[Path, pd.DataFrame]:
        return {}

    def _read(self, family: str, name: str) -> pd.DataFrame:
        import pandas as pd

        path = self.table(family, name)
        if path not in self._frames:
            self._frames[path] = pd.read_parquet(path)
        return self._frames[path]

    def _attention(
        self, phase: str, heads: int, kv_heads: int, head_dim: int, kv_cache_dtype: str
    ) -> tuple[pd.DataFrame, str]:
        path = f"{self.where} {phase} attention"
        frame = self._read("attention", f"{phase}_attention_perf.parquet")
        for column, wanted in {
            **_DECODER,
            "kv_cache_dtype": kv_cache_dtype,
            "head_dim": head_dim,
        }.items():
            if column in frame.columns:
                frame = rows_with(frame, column, wanted, path)
        same = frame[frame["num_key_value_heads"] == kv_heads]
        # One kernel throughout: the one that was measured most.
        if not same.empty:
            kernel = str(same["kernel_source"].value_counts().index[0])
            same = same[same["kernel_source"] == kernel]
        known = sorted(same["num_heads"].unique())
        if not known:
            have = sorted(frame["num_key_value_heads"].unique())
            raise UsageError(f"{path}: has no {kv_heads} key heads, only {have}")
        parts = [
            (weight, same[same["num_heads"] == count])
            for weight, count in bracket(heads, known, f"{path}: num_heads (key heads {kv_heads})")
            if weight
        ]
        if len(parts) == 1:
            return parts[0][1], kernel
        keys = ["batch_size", "isl", "step"]
        low, high = (part.groupby(keys)["latency"].median() for _, part in parts)
        mixed = (parts[0][0] * low + parts[1][0] * high).dropna()
        return mixed.reset_index(), kernel


def open_tables(system: str, framework: str, version: str | None) -> SiliconTables:
    """The tables of a system; errors as of `SiliconFiles.find`."""
    return SiliconTables.find(system, framework, version)
