"""Which bundle of a root is the one, and where a new one goes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from pytest_gpusim.bundle import resolve_root
from pytest_gpusim.bundle.layout import bundle_names, place_bundle
from pytest_gpusim.errors import InputError
from tests.factories import ENGINE, TINY, make_bundle

PLACE = "cpu/tiny/model"


def variant(root, name, **meta):
    """A bundle at the model's place, or in a folder below it."""
    make_bundle(root / PLACE / name, meta=meta)
    return root / PLACE / name


@pytest.fixture(scope="module")
def variants(tmp_path_factory):
    """One at the place itself, three below it; read-only."""
    root = tmp_path_factory.mktemp("variants")
    variant(root, ".")
    variant(root, "bf16", dtype="bfloat16")
    variant(root, "compiled", engine_mode="compiled")
    variant(root, "elsewhere", device_name="Another processor, 4 cores")
    return root


def test_several_variants_that_fit_are_an_error_that_lists_them(variants):
    with pytest.raises(InputError, match="several variants fit") as raised:
        resolve_root(variants, "tiny/model", "cpu")
    message = str(raised.value)
    assert ". (float32, eager, Synthetic processor, 2 cores, made 20" in message
    assert "bf16 (bfloat16, eager" in message
    assert "compiled (float32, compiled" in message
    assert "elsewhere (float32, eager, Another processor, 4 cores" in message
    assert "name one as --profiling-root" in message
    assert resolve_root(variants / PLACE / "bf16", "tiny/model", "cpu").name == "bf16"
    assert resolve_root(variants / PLACE, "tiny/model", "cpu") == variants / PLACE


def test_a_variant_of_the_wrong_kinds_stays_visible(variants, tmp_path):
    shutil.copytree(variants, tmp_path / "root")
    path = tmp_path / "root" / PLACE / "bf16" / "profile_meta.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tensor_parallel_sizes": 5}))
    with pytest.raises(InputError, match=r"several variants fit: .*bf16 \(no metadata\)"):
        resolve_root(tmp_path / "root", "tiny/model", "cpu", ENGINE, "Another processor, 4 cores")


@pytest.mark.parametrize(
    ("engine", "device", "expected"),
    [
        ({"dtype": "bfloat16"}, None, "bf16"),
        ({"enforce_eager": False}, None, "compiled"),
        ({}, "Another processor, 4 cores", "elsewhere"),
        ({}, "Synthetic processor, 2 cores", "model"),
    ],
)
def test_what_is_asked_of_the_engine_picks_the_variant(variants, engine, device, expected):
    asked = replace(ENGINE, **engine)
    assert resolve_root(variants, "tiny/model", "cpu", asked, device).name == expected


def test_no_variant_that_fits_is_an_error_with_the_command(variants):
    with pytest.raises(InputError, match="none of the variants fits") as raised:
        resolve_root(variants, "tiny/model", "cpu", replace(ENGINE, tensor_parallel_size=2))
    assert "bf16 (bfloat16" in str(raised.value)
    assert "'gpusim profile vllm --model tiny/model --hardware cpu" in str(raised.value)


def test_a_lone_bundle_is_the_one_whatever_is_asked(tmp_path):
    here = variant(tmp_path, "first")
    asked = replace(ENGINE, dtype="bfloat16")  # which a check or a simulation then refuses
    assert resolve_root(tmp_path, "tiny/model", "cpu", asked) == here


def test_a_variant_that_cannot_be_read_stays_visible(tmp_path):
    variant(tmp_path, ".")
    (variant(tmp_path, "broken") / "profile_meta.json").unlink()
    assert bundle_names(tmp_path) == [PLACE, f"{PLACE}/broken"]
    with pytest.raises(InputError, match=r"broken \(no metadata\)"):
        resolve_root(tmp_path, "tiny/model", "cpu", ENGINE)


def test_models_without_an_organisation_and_lost_metadata_are_found(tmp_path):
    make_bundle(tmp_path / "cpu" / "plain", model=replace(TINY, name="plain"))
    make_bundle(tmp_path / "cpu" / "plain" / "inner", model=replace(TINY, name="plain/inner"))
    make_bundle(tmp_path / "a100" / "org" / "lost")
    (tmp_path / "a100" / "org" / "lost" / "profile_meta.json").unlink()
    make_bundle(tmp_path / ".vllm-unfinished" / "org" / "model")
    assert bundle_names(tmp_path) == ["a100/org/lost", "cpu/plain", "cpu/plain/inner"]
    assert resolve_root(tmp_path, "plain", "cpu") == tmp_path / "cpu" / "plain"
    assert resolve_root(tmp_path, "plain/inner", "cpu") == tmp_path / "cpu" / "plain" / "inner"


@pytest.mark.parametrize("inside", ["", "data/profiling"])
def test_vidurs_own_tree_is_refused_with_the_command(tmp_path, inside):
    for device in ("a100", "h100"):
        folder = tmp_path / inside / "compute" / device / "org" / "name"
        folder.mkdir(parents=True)
        (folder / "mlp.csv").touch()
    tree = tmp_path / inside
    assert bundle_names(tmp_path) == []
    with pytest.raises(InputError, match="Vidur's own profiling tree") as raised:
        resolve_root(tmp_path, "org/name", "h100")
    assert f"'gpusim profile vidur {tree} --model org/name --device h100'" in str(raised.value)
    with pytest.raises(InputError) as raised:
        resolve_root(tmp_path, "org/name", "h200")
    assert "--device DEVICE' (devices: a100, h100)" in str(raised.value)


def test_a_second_profile_becomes_a_variant(tmp_path):
    root = tmp_path / "root"
    made = [tmp_path / name for name in ("first", "again", "second", "third")]
    make_bundle(made[0])
    shutil.copytree(made[0], made[1])
    make_bundle(made[2], meta={"dtype": "bfloat16"})  # the same times, of something else
    make_bundle(made[3], meta={"dtype": "float16"})
    assert place_bundle(made[0], root) == root / PLACE
    assert place_bundle(made[1], root) == root / PLACE
    assert not made[1].exists()
    second, third = place_bundle(made[2], root), place_bundle(made[3], root)
    assert second.parent == third.parent == root / PLACE
    assert second != third
    assert len(bundle_names(root)) == 3
    shutil.copytree(second, tmp_path / "more")
    assert place_bundle(tmp_path / "more", root) == second
    assert resolve_root(root, "tiny/model", "cpu", replace(ENGINE, dtype="float16")) == third


def test_a_model_whose_name_leaves_the_root_is_refused(tmp_path):
    make_bundle(tmp_path / "made", model=replace(TINY, name="../../escaped"))
    with pytest.raises(InputError, match=r"'../../escaped' on 'cpu' is no place below") as raised:
        place_bundle(tmp_path / "made", tmp_path / "a" / "root")
    assert "--out DIR" in str(raised.value)
