"""Bundles from Vidur's own profiling tree: ``gpusim profile vidur DIR``.

The tree (``data/profiling`` of Vidur's repository) has one folder per device and model with
``mlp.csv`` and ``attention.csv``, one per network with collectives, and nowhere says under what it
was measured: model, device and dtype are the user's word, held against the tables' shape columns.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gpusim.bundle import write_bundle
from pytest_gpusim.bundle.schema import (
    ALL_REDUCE,
    ATTENTION,
    MLP,
    OVERHEAD,
    SEND_RECV,
    TP,
    time_column,
)
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.profiling.composition import coverage_of
from pytest_gpusim.profiling.vidur_tables import (
    all_reduce_table,
    attention_table,
    find_file,
    mlp_table,
    overhead_table,
    send_recv_table,
)

if TYPE_CHECKING:
    import pandas as pd

    from pytest_gpusim.deployment import ModelShape
    from pytest_gpusim.registry import Registry


class _Source:
    help = "Vidur's own profiling tree (compute/<device>/<model>/{mlp,attention}.csv)"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("directory", type=Path, metavar="DIR", help="its data/profiling folder")
        parser.add_argument("--model", required=True, help="a known name, or a config.json")
        parser.add_argument(
            "--device", required=True, help="the folder below compute/, such as a100"
        )
        parser.add_argument("--profiled-as", metavar="NAME", help="the model's folder, if another")
        parser.add_argument("--network", metavar="NAME", help="the folder below network/")
        parser.add_argument(
            "--tensor-parallel-size", type=int, metavar="N", help="default: all that are there"
        )
        parser.add_argument(
            "--dtype", default="float16", help="default: float16, as Vidur profiles"
        )

    def produce(self, arguments: argparse.Namespace, registry: Registry, out: Path) -> None:
        shape = registry.model(arguments.model)
        tree = _tree(arguments.directory)
        profiled_as = arguments.profiled_as or shape.name
        folder = _model_folder(tree, arguments.device, profiled_as)
        place = _Place(tree, arguments.device, arguments.network, {profiled_as, shape.name})
        tables, notes = _tables(place, folder, shape, arguments.tensor_parallel_size)
        mlp, attention = tables[MLP], tables[ATTENTION]
        assert mlp is not None
        assert attention is not None
        write_bundle(
            out,
            tables,
            {
                "model": shape.name,
                "model_shape": shape.to_json(),
                "hardware": arguments.device,
                "device_name": None,
                "engine": "vidur profiler",
                "engine_version": None,
                "engine_mode": "eager",
                "dtype": arguments.dtype,
                "block_size": int(attention["block_size"].iloc[0]),
                "tensor_parallel_sizes": sorted({int(degree) for degree in mlp[TP]}),
                "source": "vidur",
                "calibrated_on": [],
                "coverage": coverage_of(tables),
                "repeatability": None,
                "notes": notes,
            },
        )


SOURCE = _Source()


class _Place:
    """Where in a tree the tables of one device lie."""

    def __init__(self, tree: Path, device: str, network: str | None, models: set[str]) -> None:
        self.tree, self.device, self.models = tree, device, models
        self.networks = _below(tree / "network", device)
        self.network = _chosen(tree / "network", network, self.networks)
        self._network_name = network or (self.network.name if self.network else None)

    def overheads(self) -> list[Path]:
        """The files of engine times that can be meant; more than one is one too many."""
        folder = self.tree / "cpu_overhead"
        names = [self._network_name] if self._network_name else _below(folder, self.device)
        places = [folder / name / model for name in names for model in sorted(self.models)]
        places += [folder / name for name in names]
        found = [find_file(place, "cpu_overheads") for place in places]
        return [path for path in found if path is not None]


def _tables(
    place: _Place, folder: Path, shape: ModelShape, degree: int | None
) -> tuple[dict[str, pd.DataFrame | None], list[str]]:
    """The bundle's tables, and what must be said of them."""
    notes = ["what these times were measured under is the word of whoever named model and device"]
    mlp, attention = mlp_table(folder, shape), attention_table(folder, shape)
    known = {int(each) for each in mlp[TP]} & {int(each) for each in attention[TP]}
    if not known:
        raise InputError(folder, f"column {TP}", "mlp and attention share no degree")
    if degree is not None and degree not in known:
        raise UsageError(f"--tensor-parallel-size {degree}: {folder} has {sorted(known)}")
    wanted = known if degree is None else {degree}
    reduced = None
    if place.network is not None:
        reduced = all_reduce_table(place.network, wanted)
        notes.append(f"all-reduces of network {place.network.name}")
    covered = {1} if reduced is None else {1, *(int(each) for each in reduced[TP])}
    degrees, without = wanted & covered, sorted(wanted - covered)
    if without:
        lack = f"no all-reduce times; give --network, one of {', '.join(place.networks) or 'none'}"
        if not degrees:
            raise UsageError(f"{folder}: has degrees {without} and {lack}")
        notes.append(f"degrees {without} are left out: {lack}")
    notes.append("no final norm, LM head and sampler in these profiles: they are not counted")
    if shape.qk_norm and time_column("qk_norm") not in mlp:
        notes.append("no norms of queries and keys in this profile: they are not counted")
    if reduced is not None:
        reduced = reduced[reduced[TP].isin(degrees)]
    overhead, note = _overhead(place, degrees, int(mlp["num_tokens"].max()))
    notes.append(note)
    tables: dict[str, pd.DataFrame | None] = {
        MLP: mlp[mlp[TP].isin(degrees)],
        ATTENTION: attention[attention[TP].isin(degrees)],
        ALL_REDUCE: None if reduced is None or reduced.empty else reduced,
        SEND_RECV: None if place.network is None else send_recv_table(place.network),
        OVERHEAD: overhead,
    }
    return tables, notes


def _overhead(place: _Place, degrees: set[int], max_tokens: int) -> tuple[pd.DataFrame | None, str]:
    """Engine time per iteration of the one file and degree that it can be of, and what to say."""
    files = place.overheads()
    if not files:
        return None, "no cpu_overheads.csv of this device: engine time is not counted"
    if len(files) > 1:
        names = ", ".join(str(path.relative_to(place.tree)) for path in files)
        return None, f"engine time is not counted: give --network, it may be any of {names}"
    name = files[0].relative_to(place.tree)
    if len(degrees) > 1:
        return None, (
            f"engine time of {name} differs by degree and is not counted: "
            "give --tensor-parallel-size"
        )
    (degree,) = degrees
    table = overhead_table(files[0], place.models, degree, max_tokens)
    if table is None:
        wanted = f"{' or '.join(sorted(place.models))} at degree {degree}"
        return None, f"{name} has nothing of {wanted}: engine time is not counted"
    return table, f"engine time of {name} at degree {degree}"


def _tree(directory: Path) -> Path:
    for tree in (directory, directory / "profiling", directory / "data" / "profiling"):
        if (tree / "compute").is_dir():
            return tree
    raise InputError(
        directory, "", "has no compute folder", "give the data/profiling folder of Vidur's tree"
    )


def _model_folder(tree: Path, device: str, model: str) -> Path:
    devices = sorted(path.name for path in (tree / "compute").iterdir() if path.is_dir())
    if device not in devices:
        raise UsageError(
            f"--device {device}: {tree / 'compute'} has {', '.join(devices) or 'none'}"
        )
    folder = tree / "compute" / device / model
    if not folder.is_dir():
        known = sorted(
            str(path.parent.relative_to(tree / "compute" / device))
            for path in (tree / "compute" / device).rglob("mlp.csv*")
        )
        raise UsageError(
            f"{tree / 'compute' / device}: no profile of {model}, only of "
            f"{', '.join(known) or 'no model'}; name its folder with --profiled-as"
        )
    return folder


def _below(folder: Path, device: str) -> list[str]:
    """The networks of a device, by Vidur's names: a100_dgx is one of the a100."""
    names = sorted(path.name for path in folder.glob("*") if path.is_dir())
    return [name for name in names if name == device or name.startswith(f"{device}_")]


def _chosen(folder: Path, network: str | None, mine: list[str]) -> Path | None:
    """The network that was named, or the only one of the device."""
    if network is None:
        return folder / mine[0] if len(mine) == 1 else None
    known = sorted(path.name for path in folder.glob("*") if path.is_dir())
    if network not in known:
        raise UsageError(f"--network {network}: {folder} has {', '.join(known) or 'none'}")
    return folder / network
