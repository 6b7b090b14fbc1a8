"""Vidur's own random forest, trained on a bundle, for comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vidur.execution_time_predictor.random_forrest_execution_time_predictor import (
    RandomForrestExecutionTimePredictor,
)

from pytest_gpusim.artifacts import package_version
from pytest_gpusim.bundle.schema import ATTENTION, MLP, TP
from pytest_gpusim.deployment.model import dtype_bytes
from pytest_gpusim.errors import UsageError
from pytest_gpusim.json_documents import digest_json
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.serving.steptime_operators import require_all_reduce
from pytest_gpusim.simulators.vidur.configs import GpusimForestConfig
from pytest_gpusim.simulators.vidur.forest_cache import PredictionCache, Predictions
from pytest_gpusim.simulators.vidur.parameters import FORESTS
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


_VERSIONS = ("pytest-gpusim", "vidur", "scikit-learn", "numpy")
_VIDURS_ELEMENT_BYTES = 2  # by which it turns the size of an all-reduce into tokens


class BundleForest(RandomForrestExecutionTimePredictor):
    """Trains on the session's bundle; no hub is asked, and none of Vidur's own caches is used.

    Those hold pickles and are written in place. Here the predictions alone are kept.
    """

    def _load_predictions_from_hf(self) -> bool:
        raise FileNotFoundError("predictions are made from the bundle")

    def _train_models(self) -> dict[str, Any]:
        return {}  # trained only where no predictions are kept

    def _predict_from_models(self, models: dict[str, Any]) -> Predictions:
        def build() -> Predictions:
            trained = super(BundleForest, self)._train_models()
            made: Predictions = super(BundleForest, self)._predict_from_models(trained)
            return made

        return PredictionCache(cache_directory(session_of(self._config.session).inputs)).get(build)

    def _load_model_from_cache(self, model_name: str, model_hash: str) -> None:
        return None

    def _store_model_in_cache(self, model_name: str, model_hash: str, model: Any) -> None:
        return None

    def _store_training_prediction_data(self, **_: Any) -> None:
        return None

    def _load_model_prediction_cache(self, model_name: str, model_hash: str) -> dict[Any, float]:
        return {}

    def _store_model_prediction_cache(
        self, model_name: str, model_hash: str, predictions: Any
    ) -> None:
        return None

    def _get_estimator(self) -> Any:
        # Without a seed, a rebuilt entry would differ from the one that was lost.
        return super()._get_estimator().set_params(random_state=0)

    def _get_input_files(self) -> tuple[str, str, str, str]:
        session = session_of(self._config.session)
        bundle = session.inputs.bundle
        reduced = session.scratch / "all_reduce.csv"
        tensor_parallel_size = self._replica_config.tensor_parallel_size
        if tensor_parallel_size > 1:
            times = require_all_reduce(bundle, tensor_parallel_size)
            dtype = session.inputs.engine.dtype or str(bundle.meta["dtype"])
            _write_all_reduce(times, dtype, reduced)
        return str(bundle.path / MLP), str(bundle.path / ATTENTION), str(reduced), ""


def forest_config(inputs: SimulationInputs, session: int) -> GpusimForestConfig:
    """The predictor's settings.

    Raises:
        UsageError: The model has experts, which Vidur's predictor does not know.
    """
    if inputs.model.experts is not None:
        raise UsageError(
            f"predictor=random_forest: Vidur prices no layers with experts ({inputs.model.name}); "
            "leave the parameter out"
        )
    # Vidur makes this directory, and puts nothing there.
    own = session_of(session).scratch / "vidur-cache"
    return GpusimForestConfig(**_settings(inputs), session=session, cache_dir=str(own))


def cache_directory(inputs: SimulationInputs) -> Path:
    """Where predictions are kept; its name is a digest of all that they depend on."""
    from platformdirs import user_cache_dir

    key = digest_json(
        {
            "bundle": inputs.bundle.digest,
            "model": inputs.model.to_json(),
            "engine": inputs.engine.to_json(),
            "predictor": _settings(inputs),
            "versions": {name: package_version(name) for name in _VERSIONS},
        }
    )
    return Path(user_cache_dir("pytest-gpusim")) / "vidur-forest" / key[:32]


def _settings(inputs: SimulationInputs) -> dict[str, Any]:
    name = inputs.params.get("forest", FORESTS[0])
    engine = inputs.engine
    longest = inputs.workload.max_length()[1] + _GRANULARITY
    tokens = max(longest, engine.max_num_batched_tokens or 0)
    return {
        **_GRIDS[name],
        "prediction_max_tokens_per_request": -(-tokens // _GRANULARITY) * _GRANULARITY,
        "prediction_max_prefill_chunk_size": -(-(engine.max_num_batched_tokens or 0) // 32) * 32,
        "prediction_max_batch_size": engine.max_num_seqs,
        "kv_cache_prediction_granularity": _GRANULARITY,
    }


def _write_all_reduce(table: Any, dtype: str, path: Path) -> None:
    frame = table.rename(columns={TP: "num_workers", "size_bytes": "size"})
    frame = frame.assign(
        size=frame["size"] * _VIDURS_ELEMENT_BYTES / dtype_bytes(dtype),
        devices_per_node=frame["num_workers"],
        collective="all_reduce",
        **{"time_stats.all_reduce.median": frame["time_ns"] / 1e6},
    )
    frame.to_csv(path, index=False)
