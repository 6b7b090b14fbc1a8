"""What Vidur finds by name, without an edit to it: models, devices, schedulers, predictors.

Vidur looks a name up among all subclasses of a base dataclass. The first of that name wins without
a word, and only weak references are held; hence the table here.
"""

from __future__ import annotations

import hashlib
from dataclasses import field, make_dataclass
from typing import Any

from pytest_gpusim.deployment import Hardware, ModelShape
from pytest_gpusim.errors import EngineError
from pytest_gpusim.json_documents import digest_json
from pytest_gpusim.registry import Registry
from pytest_gpusim.simulators.vidur.package import require_vidur

DEVICES_PER_NODE = 8
_AMPLE_MEMORY_GB = 1 << 20
# A model that Vidur has under the same name must agree in these.
_MODEL_SIZES = ("num_layers", "num_q_heads", "num_kv_heads", "embedding_dim", "mlp_hidden_dim")
# (kind, name) -> (values, class)
_registered: dict[tuple[str, str], tuple[dict[str, Any], type]] = {}


def register_model(shape: ModelShape, name: str | None = None) -> str:
    """Make a model known to Vidur and return its name there.

    Vidur derives ``head_dim`` as ``embedding_dim / num_q_heads``; give KV block counts explicitly.

    Raises:
        EngineError: Vidur knows another model by that name.
    """
    require_vidur()
    from vidur.config import BaseModelConfig
    from vidur.types import ActivationType, NormType

    values = {
        "num_layers": shape.num_layers,
        "num_q_heads": shape.num_q_heads,
        "num_kv_heads": shape.num_kv_heads,
        "embedding_dim": shape.hidden_size,
        "mlp_hidden_dim": shape.intermediate_size,
        "max_model_len": shape.max_position,
        "use_gated_mlp": True,
        "use_bias": False,
        "use_qkv_bias": shape.attention_bias,
        "activation": ActivationType.SILU,
        "norm": NormType.RMS_NORM,
        "post_attn_norm": True,
        "vocab_size": shape.vocab_size,
        "rope_theta": shape.rope_theta,
    }
    return _register("model", name or shape.name, BaseModelConfig, values)


def register_hardware(hardware: Hardware, *, ample_memory: bool = False) -> tuple[str, str]:
    """Make a device, and a node of it, known to Vidur; returns both names.

    Args:
        hardware: The device class; its name is the device's, unless Vidur has one of that name.
        ample_memory: Under names of its own, with memory for any model: Vidur's memory planner
            runs even where block counts are given.
    """
    require_vidur()
    from vidur.config import BaseDeviceSKUConfig, BaseNodeSKUConfig

    name = f"gpusim_{hardware.name.lower()}" if ample_memory else hardware.name.lower()
    node = f"{name}_node"
    values = {
        "fp16_tflops": hardware.fp16_tflops,
        "total_memory_gb": _AMPLE_MEMORY_GB if ample_memory else hardware.memory_gb,
    }
    if _vidurs_own(BaseDeviceSKUConfig, name) is None:
        _register("device", name, BaseDeviceSKUConfig, values)
    _register("node", node, BaseNodeSKUConfig, {"num_devices_per_node": DEVICES_PER_NODE})
    return name, node


def register_all(registry: Registry) -> None:
    """Make every model and device of the project's registry known to Vidur."""
    for model in registry.models.names():
        register_model(registry.models.get(model))
    for hardware in registry.hardware.names():
        register_hardware(registry.hardware.get(hardware))


def register_adapters() -> None:
    """Make the project's scheduler, predictors and source of requests known to Vidur."""
    require_vidur()
    from vidur.execution_time_predictor import ExecutionTimePredictorRegistry
    from vidur.request_generator import RequestGeneratorRegistry
    from vidur.scheduler import GlobalSchedulerRegistry
    from vidur.scheduler.replica_scheduler.replica_scheduler_registry import (
        ReplicaSchedulerRegistry,
    )

    from pytest_gpusim.simulators.vidur import configs, forest, predictor, scheduler

    for registry, config, implementation in (
        (RequestGeneratorRegistry, configs.GpusimWorkloadConfig, scheduler.WorkloadGenerator),
        (
            ReplicaSchedulerRegistry,
            configs.GpusimVllmSchedulerConfig,
            scheduler.VllmReplicaScheduler,
        ),
        (
            ReplicaSchedulerRegistry,
            configs.GpusimSarathiSchedulerConfig,
            scheduler.ExactSarathiScheduler,
        ),
        (
            GlobalSchedulerRegistry,
            configs.GpusimSingleReplicaConfig,
            scheduler.SingleReplicaScheduler,
        ),
        (
            GlobalSchedulerRegistry,
            configs.GpusimRoundRobinConfig,
            scheduler.RoundRobinRouter,
        ),
        (GlobalSchedulerRegistry, configs.GpusimRandomConfig, scheduler.RandomRouter),
        (
            GlobalSchedulerRegistry,
            configs.GpusimLeastOutstandingConfig,
            scheduler.LeastOutstandingRouter,
        ),
        (
            ExecutionTimePredictorRegistry,
            configs.GpusimProfilePredictorConfig,
            predictor.ProfilePredictor,
        ),
        (ExecutionTimePredictorRegistry, configs.GpusimForestConfig, forest.BundleForest),
    ):
        registry.register(config.get_type(), implementation)


def private_model_name(shape: ModelShape) -> str:
    """A name that no other shape has, for simulations that name their model themselves."""
    return f"gpusim/{shape.name}#{digest_json(shape.to_json())[:12]}"


def _register(kind: str, name: str, base: type, values: dict[str, Any]) -> str:
    known = _registered.get((kind, name))
    if known is None:
        own = _vidurs_own(base, name)
        if own is None:
            _registered[kind, name] = values, _subclass(kind, name, base, values)
        elif any(getattr(own, key, None) != values.get(key) for key in _MODEL_SIZES):
            raise EngineError(
                f"Vidur has a {kind} {name!r} of its own and another shape: give yours another name"
            )
    elif known[0] != values:
        differing = next(key for key in values if values[key] != known[0][key])
        raise EngineError(
            f"the {kind} {name!r} is registered with Vidur with {differing} "
            f"{known[0][differing]}, and cannot get {values[differing]} in the same process"
        )
    return name


def _vidurs_own(base: type, name: str) -> Any:
    from vidur.config.utils import get_all_subclasses

    ours = {cls for _, cls in _registered.values()}
    named = (c for c in get_all_subclasses(base) if c not in ours and _name_of(c) == name)
    return next(named, None)


def _name_of(subclass: Any) -> str:
    getter = getattr(subclass, "get_name", None) or subclass.get_type
    return str(getter())


def _subclass(kind: str, name: str, base: type, values: dict[str, Any]) -> type:
    getter = staticmethod(lambda: name)
    # Vidur's command line makes option names of class names, so they must differ.
    suffix = hashlib.sha256(name.encode()).hexdigest()[:8]
    return make_dataclass(
        f"Gpusim{kind.title()}{suffix}Config",
        [(key, type(value), field(default=value)) for key, value in values.items()],
        bases=(base,),
        namespace={"get_name": getter} if kind == "model" else {"get_type": getter},
    )
