"""Vidur's execution-time predictor, from the project's step-time model: nothing is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vidur._native.entities import ExecutionTime
from vidur.entities import Batch
from vidur.execution_time_predictor import BaseExecutionTimePredictor

from pytest_gpusim.bundle import read_bundle
from pytest_gpusim.bundle.match import require_model
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.serving.steptime import StepTime, StepTimeModel
from pytest_gpusim.simulators.engine import ServingEngine
from pytest_gpusim.simulators.vidur.entities import (
    EngineBatch,
    SarathiBatch,
    TimedBatch,
    features_of,
)
from pytest_gpusim.simulators.vidur.session import session_of

_NS_PER_MS = 1e6
# In the order of ExecutionTime's arguments, those that depend on the step's tokens alone.
_BEFORE_ATTENTION = ("attn_rope", "attn_kv_cache_save")
_AFTER_ATTENTION = (
    "attn_pre_proj",
    "attn_post_proj",
    "mlp_up_proj",
    "mlp_down_proj",
    "mlp_act",
    "input_layernorm",
    "post_attention_layernorm",
    "add",
    "all_reduce",
)
_NOT_IN_VIDURS_SUM = "attn_kv_cache_save"


def _operator(name: str) -> Callable[[ProfilePredictor, Any], float]:
    def time_ms(self: ProfilePredictor, batch: Any) -> float:
        return self.layer_times_ms(batch).get(name, 0.0)

    return time_ms


class ProfilePredictor(BaseExecutionTimePredictor):
    """Gives each batch its exact time, and Vidur's `ExecutionTime` its parts.

    What Vidur has no place for (embedding, final norm, LM head, sampler, engine time, saving to the
    KV cache, norms of Q and K) is added once per stage, as its pipeline communication.
    """

    def __init__(self, predictor_config: Any, replica_config: Any, cache_config: Any) -> None:
        super().__init__(predictor_config, replica_config, cache_config)
        self._engine: ServingEngine | None = None
        if predictor_config.session:
            self._engine = session_of(predictor_config.session).engine
            self._model = self._engine.model
        else:
            self._model = _model_of(predictor_config.bundle, replica_config)
        self._parts: dict[int, tuple[tuple[float, ...], tuple[float, ...], float]] = {}

    def get_execution_time(self, batch: Batch, pipeline_stage: int) -> ExecutionTime:
        """The batch's time; ``total_time`` is that of the model to a rounding of the float."""
        time = self._step_time(batch)
        if isinstance(batch, TimedBatch):
            batch.duration_ns = time.time_ns
        tokens = batch.total_num_q_tokens
        parts = self._parts.get(tokens)
        if parts is None:
            parts = self._parts[tokens] = self._parts_of(batch)
        before, after, layer_sum = parts
        layers = self._num_layers_per_pipeline_stage
        decode = time.decode_ns / layers / _NS_PER_MS
        prefill = (time.prefill_ns + time.mixed_ns) / layers / _NS_PER_MS
        rest = time.time_ns / _NS_PER_MS - layers * (layer_sum + decode + prefill)
        return ExecutionTime(layers, *before, decode, prefill, *after, rest)

    def layer_times_ms(self, batch: Batch) -> dict[str, float]:
        """Operator times of the batch in one layer."""
        layers = self._num_layers_per_pipeline_stage
        time = self._step_time(batch)
        times = self._model.layer_times(batch.total_num_q_tokens)
        times["attn_decode"] = time.decode_ns / layers
        times["attn_prefill"] = (time.prefill_ns + time.mixed_ns) / layers
        return {name: value / _NS_PER_MS for name, value in times.items()}

    def _step_time(self, batch: Batch) -> StepTime:
        if isinstance(batch, EngineBatch):
            assert self._engine is not None
            return self._engine.time(batch.timed)
        if isinstance(batch, SarathiBatch):
            if batch.time is None:
                batch.time = self._model.time(batch.features)
            return batch.time
        return self._model.time(features_of(batch))

    def _parts_of(self, batch: Any) -> tuple[tuple[float, ...], tuple[float, ...], float]:
        times = self.layer_times_ms(batch)
        before = tuple(times.get(name, 0.0) for name in _BEFORE_ATTENTION)
        after = tuple(times.get(name, 0.0) for name in _AFTER_ATTENTION)
        # Vidur reduces twice a layer, and leaves saving to the KV cache out.
        layer_sum = sum(before) + sum(after) + times["all_reduce"]
        return before, after, layer_sum - times.get(_NOT_IN_VIDURS_SUM, 0.0)

    _get_attention_rope_execution_time = _operator("attn_rope")
    _get_attention_kv_cache_save_execution_time = _operator("attn_kv_cache_save")
    _get_attention_decode_execution_time = _operator("attn_decode")
    _get_attention_prefill_execution_time = _operator("attn_prefill")
    _get_attention_layer_pre_proj_execution_time = _operator("attn_pre_proj")
    _get_attention_layer_post_proj_execution_time = _operator("attn_post_proj")
    _get_mlp_layer_up_proj_execution_time = _operator("mlp_up_proj")
    _get_mlp_layer_down_proj_execution_time = _operator("mlp_down_proj")
    _get_mlp_layer_act_execution_time = _operator("mlp_act")
    _get_attn_norm_layer_act_execution_time = _operator("input_layernorm")
    _get_mlp_norm_layer_act_execution_time = _operator("post_attention_layernorm")
    _get_add_layer_act_execution_time = _operator("add")
    _get_tensor_parallel_communication_time = _operator("all_reduce")
    _get_pipeline_parallel_communication_time = _operator("send_recv")
    _get_kv_parallel_communication_time = _operator("all_reduce_kvp")


def _model_of(bundle_directory: str, replica_config: Any) -> StepTimeModel:
    bundle = read_bundle(bundle_directory)
    require_model(bundle, replica_config.model_name)
    settings = EngineSettings(tensor_parallel_size=replica_config.tensor_parallel_size)
    return StepTimeModel(bundle, bundle.model_shape, settings)
