"""Upstream's own ``vidur.main`` with models that it does not know, each from its HF config.json.

Run it with the interpreter of ``.venv-upstream``: ``python extern/upstream_main.py CONFIG… -- ARGS``.
A model's name there is that of the folder that holds the file.
"""

from __future__ import annotations

import json
import sys
from dataclasses import field, fields, make_dataclass
from pathlib import Path
from typing import Any

_kept: list[type] = []  # upstream finds subclasses, which live only as long as something holds them


def register(path: Path) -> str:
    """Make a dense decoder known to upstream; returns its name there."""
    from vidur.config.model_config import BaseModelConfig
    from vidur.types import ActivationType, NormType

    document = json.loads(path.read_text(encoding="utf-8"))
    name = path.resolve().parent.name
    heads = int(document["num_attention_heads"])
    longest = int(document["max_position_embeddings"])
    values: dict[str, Any] = {
        "num_layers": int(document["num_hidden_layers"]),
        "num_q_heads": heads,
        "num_kv_heads": int(document.get("num_key_value_heads") or heads),
        "embedding_dim": int(document["hidden_size"]),
        "mlp_hidden_dim": int(document["intermediate_size"]),
        "max_position_embeddings": longest,
        "max_model_len": longest,
        "use_gated_mlp": True,
        "use_bias": False,
        "use_qkv_bias": bool(document.get("attention_bias", False)),
        "activation": ActivationType.SILU,
        "norm": NormType.RMS_NORM,
        "post_attn_norm": True,
        "vocab_size": int(document["vocab_size"]),
    }
    known = {each.name: each.type for each in fields(BaseModelConfig)}
    _kept.append(
        make_dataclass(
            f"Model{len(_kept)}Config",
            [(key, known[key], field(default=values[key])) for key in values if key in known],
            bases=(BaseModelConfig,),
            namespace={"get_name": staticmethod(lambda: name)},
        )
    )
    return name


def main(arguments: list[str]) -> None:
    """Register the models before ``--``, then run upstream with what follows it."""
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    for path in arguments[:cut]:
        print(f"registered {register(Path(path))}", file=sys.stderr)
    sys.argv = ["vidur", *arguments[cut + 1 :]]
    from vidur.main import main as run

    run()


if __name__ == "__main__":
    main(sys.argv[1:])
