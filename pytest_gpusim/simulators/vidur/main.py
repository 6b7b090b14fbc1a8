"""``gpusim vidur -- ARGS``: Vidur's own main, with the project's models and devices known to it.

Two more types can be chosen there: the predictor ``gpusim_profile`` (``--gpusim_profile_predictor_
config_bundle DIR``), which trains nothing and asks no hub, and the request generator
``gpusim_workload`` (``--gpusim_workload_config_directory DIR``).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pytest_gpusim.artifacts import DEFAULT_ROOT
from pytest_gpusim.errors import EngineError, GpusimError
from pytest_gpusim.registry import Registry
from pytest_gpusim.simulators.vidur.package import require_vidur
from pytest_gpusim.simulators.vidur.registration import register_adapters, register_all


def run_main(args: Sequence[str], registry: Registry) -> None:
    """Hand over to ``vidur.main`` with the arguments that Vidur's own command line takes.

    Raises:
        EngineError: Vidur is missing, not of a supported version, or failed.
        SystemExit: Vidur's argument parser ended the program (``--help``, a wrong option).
    """
    require_vidur()
    register_all(registry)
    hand_over(args)


# Vidur's defaults lie beside the artifacts: ./simulator_output and ./cache. What ARGS say stands.
_PLACES = (
    *("--metrics_config_output_dir", str(DEFAULT_ROOT / "vidur_output")),
    *(
        word
        for predictor in ("random_forrest", "linear_regression")  # spelt as Vidur spells it
        for word in (
            f"--{predictor}_execution_time_predictor_config_cache_dir",
            str(DEFAULT_ROOT / "vidur_cache"),
        )
    ),
)


def hand_over(args: Sequence[str]) -> None:
    """Run ``vidur.main`` under ``sys.argv`` of its own, its output below the artifacts."""
    from vidur.main import main

    register_adapters()
    before = sys.argv
    sys.argv = ["gpusim vidur --", *_PLACES, *args]
    try:
        main()
    except GpusimError:
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        raise EngineError(f"Vidur's main failed: {text[:300]}") from error
    finally:
        sys.argv = before
