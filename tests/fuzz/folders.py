"""Readers of folders that other tools or processes left: profiles, archives, caches, campaigns."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import lzma
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pytest_gpusim.errors import GpusimError
from pytest_gpusim.registry import builtin_registry
from tests.factories import TINY, make_bundle
from tests.fuzz.readers import RECORDING, Reader


def folder_readers(scratch: Path) -> Iterator[Reader]:
    """The readers; their seeds are made in ``scratch``."""
    from tests.llmservingsim import folder as servingsim

    published = servingsim.write_folder(
        scratch / "published",
        servingsim.lone_requests(),
        cluster=servingsim.cluster_of(link_bw=16, link_latency=5000),
        errors="Metric vLLM Sim\nTTFT Mean (ms)  100.0 110.0 +10%\n| TPOT | P90 | 10 | 11 |\n",
        profile={
            "skew_fit": {"enabled": True, "per_tp": {1: {"alpha_default": 0.25}}},
            "skew_rows": "n_label,kp_label,pc_label,alpha\nn<=2,kp=0,16-64,0.5\nn<=2,kp>0,,0.25\n",
        },
    )
    (published / "vllm_run" / "workload.jsonl").write_text(
        '{"input_toks": 3, "arrival_time_ns": 5, "input_tok_ids": [1, 2, 3]}\n' * 4
    )
    yield Reader("published run", [published], _published)
    yield Reader("published json", [published], _published, changed="*.json")
    yield Reader("published yaml", [published], _published, changed="*.yaml")
    tree = scratch / "vidur"
    _make_tree(tree)
    yield Reader("profile of Vidur", [tree], _vidur)
    archive = scratch / "case.tar"
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.add(RECORDING, "case")
    yield Reader("archive", [archive], _archive)
    forest = scratch / "forest.npz"
    forest.write_bytes(_forest())
    yield Reader("cache of forests", [forest], _cache)
    campaign = scratch / "campaign.jsonl"
    campaign.write_text(_CAMPAIGN)
    yield Reader("campaign", [campaign], _campaign)
    tokenizer = scratch / "tokenizers"
    tokenizer.mkdir()
    from tests.workload.tokenizer import make_tokenizer

    made = Path(make_tokenizer(tokenizer))
    yield Reader("tokenizer", [made / "tokenizer.json" if made.is_dir() else made], _tokenizer)


def _published(path: Path, out: Path) -> None:
    from pytest_gpusim.llmservingsim.inputs import prepare
    from pytest_gpusim.llmservingsim.published_run import find_runs, read_published
    from pytest_gpusim.published.errors import read_published_errors
    from pytest_gpusim.runs import read_run

    registry = builtin_registry()
    for place in find_runs([path]):
        read_published_errors(place)
        run = read_published(place, registry)
        prepare(run, registry, out / "work")
        read_run(out / "work" / "real")


def _make_tree(tree: Path) -> None:
    model = replace(TINY, qk_norm=False)
    bundle = make_bundle(tree.parent / "vidur-made", model=model)
    folder = tree / "compute" / "a100" / "tiny" / "model"
    folder.mkdir(parents=True)
    drop = ["time_stats.qk_norm.median", "time_stats.final_layernorm.median"]
    bundle.mlp.drop(columns=drop).to_csv(folder / "mlp.csv", index=False)
    bundle.attention.drop(columns="head_dim").to_csv(folder / "attention.csv", index=False)


def _vidur(path: Path, out: Path) -> None:
    from pytest_gpusim.profiling.vidur_data import SOURCE

    registry = builtin_registry()
    registry.add_model(replace(TINY, qk_norm=False))
    parser = argparse.ArgumentParser()
    SOURCE.add_arguments(parser)
    given = [str(path), "--model", "tiny/model", "--device", "a100", "--profiled-as", "tiny/model"]
    SOURCE.produce(parser.parse_args(given), registry, out / "bundle")


def _archive(path: Path, out: Path) -> None:
    """The bytes inside of xz are mutated: those of xz itself all end at its checksum."""
    from pytest_gpusim.backends.archive import find_recording
    from pytest_gpusim.backends.recorded import open_recording

    recordings = out / "recordings"
    recordings.mkdir()
    (recordings / "case.tar.xz").write_bytes(lzma.compress(path.read_bytes(), preset=0))
    place = find_recording(recordings, "case", out / "unpacked")
    assert place is not None
    assert not any(each.is_symlink() for each in (out / "unpacked").rglob("*"))
    open_recording(place)


def _forest() -> bytes:
    import numpy as np

    stream = io.BytesIO()
    keys, values = np.array([[1], [2]], dtype=np.int64), np.array([0.25, 0.5])
    np.savez_compressed(stream, **{"mlp.keys": keys, "mlp.values": values})
    return stream.getvalue()


def _cache(path: Path, out: Path) -> None:
    """The checksum fits: whoever changed the entry wrote that as well."""
    from pytest_gpusim.simulators.vidur.forest_cache import PredictionCache

    cache = PredictionCache(out / "key")
    cache.path.parent.mkdir()
    payload = path.read_bytes()
    header = b"gpusim forest 1 " + hashlib.sha256(payload).hexdigest().encode()
    cache.path.write_bytes(header + b"\n" + payload)
    cache.get(lambda: {"mlp": {(1,): 1.0}})


_CAMPAIGN = """\
{"num_gpu_blocks": 100}
{"pass": 0, "shape": {"prefills": [[10, 0]], "num_decodes": 0, "decode_context": 0}, "rows": \
[{"wall_ns": 5, "cpu_ns": 5, "prefills": [[10, 0]], "decodes": [], "operators": {"emb": 1}}]}
{"pass": 1, "shape": {"prefills": [], "num_decodes": 3, "decode_context": 33}, "rows": \
[{"wall_ns": 5, "cpu_ns": 5, "prefills": [], "decodes": [33, 33, 33], "operators": {"emb": 1}}]}
"""


def _campaign(path: Path, out: Path) -> None:
    """What cannot be read was cut by a kill: it is measured again, and never an error."""
    from pytest_gpusim.json_documents import digest_json
    from pytest_gpusim.profiling.vllm.campaign import Campaign
    from pytest_gpusim.profiling.vllm.grid import Shape

    place = out / f"{digest_json('x')[:16]}.jsonl"
    place.write_bytes(path.read_bytes())
    try:
        made = Campaign("x", 2, out)
        made.plan(100, lambda _: [Shape(((10, 0),), 0, 0), Shape((), 3, 33)])
        made.samples()
        made._append().close()
    except GpusimError as error:
        raise AssertionError(f"an interrupted campaign is an error: {error}") from error
    for line in place.read_text().splitlines():
        json.loads(line)


def _tokenizer(path: Path, out: Path) -> None:
    from pytest_gpusim.workload.tokenizer import exact_texts

    exact_texts(str(path), [1, 5], 0)
