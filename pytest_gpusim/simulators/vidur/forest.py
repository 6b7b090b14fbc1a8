"""Vidur's own random forest, trained on a bundle, for comparison."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidur.execution_time_predictor.random_forrest_execution_time_predictor import (
    RandomForrestExecutionTimePredictor,
)

from pytest_gpusim.artifacts import digest_json, package_version
from pytest_gpusim.bundle.schema import ALL_REDUCE, ATTENTION, MLP, TP
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.registry import SimulationInputs
from pytest_gpusim.simulators.vidur.configs import GpusimForestConfig
from pytest_gpusim.simulators.vidur.session import session_of

_GRANULARITY = 256
# Vidur's own grid trains 270 forests per operator; one candidate of it is the default here.
_GRIDS: dict[str, dict[str, Any]] = {
    "small": {
        "num_estimators": [250],
        "max_depth": [32],
        "min_samples_split": [2],
        "k_fold_cv_splits": 2,
        "num_training_job_threads": 1,
    },
    "vidur": {},
}


class BundleForest(RandomForrestExecutionTimePredictor):
    """Trains on the session's bundle; no hub is asked."""

    def _load_predictions_from_hf(self) -> bool:
        raise FileNotFoundError("predictions are made from the bundle")

    def _get_input_files(self) -> tuple[str, str, str, str]:
        session = session_of(self._config.session)
        bundle = session.inputs.bundle
        reduced = session.scratch / "all_reduce.csv"
        tensor_parallel_size = self._replica_config.tensor_parallel_size
        if tensor_parallel_size > 1:
            if bundle.all_reduce is None:
                raise InputError(
                    bundle.path / ALL_REDUCE,
                    "",
                    f"no such table, and tensor_parallel_size is {tensor_parallel_size}",
                    "make the bundle again with all-reduce times",
                )
            _write_all_reduce(bundle.all_reduce, reduced)
        return str(bundle.path / MLP), str(bundle.path / ATTENTION), str(reduced), ""


def forest_config(inputs: SimulationInputs, session: int) -> GpusimForestConfig:
    """The predictor's settings; its cache is keyed by all that its predictions depend on.

    Raises:
        UsageError: ``forest`` in the parameters is not one of the grids.
    """
    name = str(inputs.params.get("forest", "small"))
    if name not in _GRIDS:
        raise UsageError(f"--param forest={name}: known are {', '.join(sorted(_GRIDS))}")
    engine = inputs.engine
    longest = inputs.workload.max_length()[1] + _GRANULARITY
    tokens = max(longest, engine.max_num_batched_tokens or 0)
    settings: dict[str, Any] = {
        **_GRIDS[name],
        "prediction_max_tokens_per_request": -(-tokens // _GRANULARITY) * _GRANULARITY,
        "prediction_max_prefill_chunk_size": -(-(engine.max_num_batched_tokens or 0) // 32) * 32,
        "prediction_max_batch_size": engine.max_num_seqs,
        "kv_cache_prediction_granularity": _GRANULARITY,
    }
    return GpusimForestConfig(
        **settings, session=session, cache_dir=str(_cache_directory(inputs, settings))
    )


def _cache_directory(inputs: SimulationInputs, settings: Mapping[str, Any]) -> Path:
    from platformdirs import user_cache_dir

    key = digest_json(
        {
            "bundle": inputs.bundle.digest,
            "model": inputs.model.to_json(),
            "engine": inputs.engine.to_json(),
            "predictor": dict(settings),
            "versions": {n: package_version(n) for n in ("vidur", "scikit-learn", "numpy")},
        }
    )
    return Path(user_cache_dir("pytest-gpusim")) / "vidur-forest" / key[:32]


def _write_all_reduce(table: Any, path: Path) -> None:
    frame = table.rename(columns={TP: "num_workers", "size_bytes": "size"})
    frame = frame.assign(
        devices_per_node=frame["num_workers"],
        collective="all_reduce",
        **{"time_stats.all_reduce.median": frame["time_ns"] / 1e6},
    )
    frame.to_csv(path, index=False)
