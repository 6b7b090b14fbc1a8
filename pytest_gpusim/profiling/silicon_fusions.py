"""What a compiled engine runs as one kernel that the tables have as several.

vLLM's pass ``fuse_allreduce_rms`` runs an all-reduce, the residual's addition and the norm after it
as FlashInfer's ``trtllm_allreduce_fusion``. Nobody's table has that kernel. It is TensorRT-LLM's
all-reduce (FlashInfer's pull request 1507 brought its launches in line), whose times AIConfigurator
has for the same devices, with the norm's traffic on top and no kernel for the norm: 9.4 us for 128
tokens of 8,192 on two B200, where that pull request measured 9.8.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_gpusim.deployment.settings.defaults import NEWEST, Release

_MIB = 1 << 20
# Compute capability -> degree -> MiB of the largest message, and the release that does so unasked
# (``compilation/passes/fusion/allreduce_rms_fusion.py: FI_ALLREDUCE_FUSION_MAX_SIZE_MB``,
# ``config/vllm.py: enable_allreduce_rms_fusion``; pull requests 34299, 37755 and 37756).
_DEFAULTS: dict[int, tuple[Release, dict[int, float]]] = {
    90: ((0, 17), {2: 64, 4: 2, 8: 0.5}),
    100: ((0, 17), {2: 64, 4: 32, 8: 1}),
    103: ((0, 19), {2: 64, 4: 64, 8: 4}),
}


@dataclass(frozen=True)
class Fusions:
    """What is fused.

    Attributes:
        all_reduce_bytes: The largest message that is reduced in the kernel of the norm after it;
            0: none.
        attention_quantizes: Whether attention writes its output in fp8, for the product after it.
    """

    all_reduce_bytes: int = 0
    attention_quantizes: bool = False


NOTHING = Fusions()


def up_to_mib(limits: dict[int, float], workers: int, *, attention_quantizes: bool) -> Fusions:
    """Fused up to so many MiB, by degree."""
    return Fusions(int(limits.get(workers, 0) * _MIB), attention_quantizes)


def default_fusions(release: Release | None, sm_version: int | None, workers: int) -> Fusions:
    """What a release fuses at its default optimization level; ``release`` None: the newest."""
    if sm_version is None:
        return NOTHING
    since, limits = _DEFAULTS.get(sm_version, (NEWEST, {}))
    if (release or NEWEST) < since:
        return NOTHING
    return up_to_mib(limits, workers, attention_quantizes=False)
