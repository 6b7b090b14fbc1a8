"""Models that are known by name; shapes from their published ``config.json``."""

from __future__ import annotations

from dataclasses import replace

from pytest_gpusim.deployment.experts import Experts
from pytest_gpusim.deployment.model import ModelShape
from pytest_gpusim.deployment.quantization import Quantization

QWEN3_0_6B = ModelShape(
    name="Qwen/Qwen3-0.6B",
    architecture="Qwen3ForCausalLM",
    num_layers=28,
    hidden_size=1024,
    num_q_heads=16,
    num_kv_heads=8,
    head_dim=128,
    intermediate_size=3072,
    vocab_size=151936,
    max_position=40960,
    tie_word_embeddings=True,
    attention_bias=False,
    qk_norm=True,
    torch_dtype="bfloat16",
    rms_norm_eps=1e-6,
    rope_theta=1_000_000.0,
)

LLAMA_3_1_8B = ModelShape(
    name="meta-llama/Llama-3.1-8B",
    architecture="LlamaForCausalLM",
    num_layers=32,
    hidden_size=4096,
    num_q_heads=32,
    num_kv_heads=8,
    head_dim=128,
    intermediate_size=14336,
    vocab_size=128256,
    max_position=131072,
    tie_word_embeddings=False,
    attention_bias=False,
    qk_norm=False,
    torch_dtype="bfloat16",
    rms_norm_eps=1e-5,
    rope_theta=500_000.0,
)

LLAMA_3_1_70B = replace(
    LLAMA_3_1_8B,
    name="meta-llama/Llama-3.1-70B",
    num_layers=80,
    hidden_size=8192,
    num_q_heads=64,
    intermediate_size=28672,
)
# ModelOpt's recipe: weights and activations per tensor, the KV cache too.
_MODELOPT_FP8 = Quantization("fp8", kv_cache_dtype="fp8")
_MODELOPT_FP4 = Quantization("nvfp4", kv_cache_dtype="fp8")
_FP8_BLOCKS = Quantization("fp8_block")

QWEN3_32B = replace(
    QWEN3_0_6B,
    name="Qwen/Qwen3-32B",
    num_layers=64,
    hidden_size=5120,
    num_q_heads=64,
    intermediate_size=25600,
    tie_word_embeddings=False,
)
QWEN3_14B = replace(
    QWEN3_32B,
    name="Qwen/Qwen3-14B",
    num_layers=40,
    num_q_heads=40,
    intermediate_size=17408,
)
QWEN3_30B_A3B = replace(
    QWEN3_0_6B,
    name="Qwen/Qwen3-30B-A3B",
    architecture="Qwen3MoeForCausalLM",
    num_layers=48,
    hidden_size=2048,
    num_q_heads=32,
    num_kv_heads=4,
    intermediate_size=6144,
    tie_word_embeddings=False,
    experts=Experts(num_experts=128, per_token=8, width=768),
)
QWEN3_235B_A22B = replace(
    QWEN3_30B_A3B,
    name="Qwen/Qwen3-235B-A22B",
    num_layers=94,
    hidden_size=4096,
    num_q_heads=64,
    intermediate_size=12288,
    experts=Experts(num_experts=128, per_token=8, width=1536),
)
MIXTRAL_8X7B = replace(
    LLAMA_3_1_8B,
    name="mistralai/Mixtral-8x7B-v0.1",
    architecture="MixtralForCausalLM",
    vocab_size=32000,
    max_position=32768,
    rope_theta=1_000_000.0,
    experts=Experts(num_experts=8, per_token=2, width=14336),
)
MINIMAX_M2_5 = ModelShape(
    name="MiniMaxAI/MiniMax-M2.5",
    architecture="MiniMaxM2ForCausalLM",
    num_layers=62,
    hidden_size=3072,
    num_q_heads=48,
    num_kv_heads=8,
    head_dim=128,
    intermediate_size=1536,
    vocab_size=200064,
    max_position=196608,
    tie_word_embeddings=False,
    attention_bias=False,
    qk_norm=True,
    torch_dtype="bfloat16",
    rms_norm_eps=1e-6,
    rope_theta=5_000_000.0,
    qk_norm_over_heads=True,
    experts=Experts(num_experts=256, per_token=8, width=1536),
    quantization=_FP8_BLOCKS,
)

BUILTIN_MODELS = (
    QWEN3_0_6B,
    QWEN3_14B,
    QWEN3_32B,
    replace(QWEN3_32B, name="Qwen/Qwen3-32B-FP8", quantization=_FP8_BLOCKS),
    QWEN3_30B_A3B,
    replace(QWEN3_30B_A3B, name="Qwen/Qwen3-30B-A3B-FP8", quantization=_FP8_BLOCKS),
    QWEN3_235B_A22B,
    replace(QWEN3_235B_A22B, name="Qwen/Qwen3-235B-A22B-FP8", quantization=_FP8_BLOCKS),
    LLAMA_3_1_8B,
    replace(LLAMA_3_1_8B, name="nvidia/Llama-3.1-8B-Instruct-FP8", quantization=_MODELOPT_FP8),
    LLAMA_3_1_70B,
    replace(LLAMA_3_1_70B, name="nvidia/Llama-3.1-70B-Instruct-FP8", quantization=_MODELOPT_FP8),
    replace(LLAMA_3_1_70B, name="nvidia/Llama-3.3-70B-Instruct-FP8", quantization=_MODELOPT_FP8),
    replace(LLAMA_3_1_70B, name="nvidia/Llama-3.3-70B-Instruct-FP4", quantization=_MODELOPT_FP4),
    replace(QWEN3_235B_A22B, name="nvidia/Qwen3-235B-A22B-NVFP4", quantization=_MODELOPT_FP4),
    MIXTRAL_8X7B,
    MINIMAX_M2_5,
    replace(
        MINIMAX_M2_5,
        name="nvidia/MiniMax-M2.5-NVFP4",
        quantization=replace(_MODELOPT_FP4, excluded=("attention",)),
    ),
)
