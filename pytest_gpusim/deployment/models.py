"""Models that are known by name; shapes from their published ``config.json``."""

from __future__ import annotations

from pytest_gpusim.deployment.model import ModelShape

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

BUILTIN_MODELS = (QWEN3_0_6B, LLAMA_3_1_8B)
