"""Least squares over figures of real runs, with what a profile may be off by taken into account.

The real figures are the simulated ones times an error of the profile, the same in all figures of a
metric, times noise. What the error explains as well as a parameter does is shared between the two
by their widths (Kennedy and O'Hagan, *Bayesian calibration of computer models*, J. R. Statist. Soc.
B 63, 2001, with a constant discrepancy). A part of it all workloads have in common: that is found
with the parameters, the rest is part of the residuals' covariance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pytest_gpusim.bundle_checks.biases import PROFILE_ERROR, not_told, told_share
from pytest_gpusim.calibration.evidence import STATISTICS, Evidence, Figures
from pytest_gpusim.calibration.parameters import Parameter
from pytest_gpusim.calibration.resimulation import Resimulation
from pytest_gpusim.calibration.result import Calibration, Fitted, Joint
from pytest_gpusim.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

# Repeats of a run on one machine differ by about so much, all figures together and each by itself.
_NOISE = 0.01
# Of the normal distribution, for an interval of 90%.
_Z = 1.645
_ROUNDS = 3
# Simulations lie no nearer to each other than this part of what is thought of engine time before.
_APART = 4
_METRICS = ("ttft", "tpot")
# So much more TTFT from so much more step time: the load, not the engine, sets it.
_MAGNIFIED = 10.0
# A parameter whose interval is nearly that of its prior was not told by the runs.
_UNTOLD = 0.95


def fit(
    evidence: Sequence[Evidence],
    parameters: Sequence[Parameter],
    simulations: Sequence[Resimulation],
    profile_bias: float,
) -> Calibration:
    """Fit the parameters on all workloads at once.

    Args:
        evidence: The real runs by workload.
        parameters: What is fitted; may be nothing, and then the errors alone are told.
        simulations: Of the same workloads; more are added.
        profile_bias: Share by which the profile's step times may be off, one standard deviation.

    Raises:
        UsageError: The runs cannot tell a parameter; says which load would.
    """
    import numpy as np
    from scipy.optimize import least_squares

    if not parameters:
        _start(simulations, ())
        return _calibration((), {}, evidence, simulations, profile_bias)
    real = np.concatenate([_logs(each.figures) for each in evidence])
    whiten = np.linalg.inv(np.linalg.cholesky(_covariance(len(evidence), profile_bias)))
    names = [parameter.name for parameter in parameters]
    common = told_share(profile_bias)
    priors = np.array([*(parameter.prior_ns or np.inf for parameter in parameters), common])
    scale = np.array([*(_scale(parameter) for parameter in parameters), common])
    longer = np.tile(
        np.repeat([metric == "tpot" for metric in _METRICS], len(STATISTICS)), len(evidence)
    )

    def predicted(values: np.ndarray) -> np.ndarray:
        *times_ns, error = values * scale
        known = dict(zip(names, times_ns, strict=True))
        times = known.get("engine_time", 0.0), known.get("front_end", 0.0)
        logs = np.concatenate([_logs(each.figures(*times)) for each in simulations])
        return np.asarray(logs + error * longer)

    def residuals(values: np.ndarray) -> np.ndarray:
        return np.concatenate([whiten @ (predicted(values) - real), values * scale / priors])

    bounds = tuple(
        np.array([*(getattr(parameter, f"{side}_ns") for parameter in parameters), open_end])
        / scale
        for side, open_end in (("low", -np.inf), ("high", np.inf))
    )
    fitted_time = "engine_time" in names
    _start(simulations, parameters)
    if fitted_time:
        _require_below_saturation(simulations, parameters[names.index("engine_time")])
    start = np.clip(np.array([*(0.1 for _ in names), 0.0]), *bounds)
    for _ in range(_ROUNDS):
        found = least_squares(residuals, start, bounds=bounds)
        start = found.x
        if not fitted_time:
            break
        place = names.index("engine_time")
        for each in simulations:
            each.simulate(float(found.x[place] * scale[place]), float(scale[place]) / _APART)
    covariance = np.linalg.pinv(found.jac.T @ found.jac) * np.outer(scale, scale)
    joint = Joint((*names, PROFILE_ERROR), found.x * scale, covariance)
    *spread, _ = _Z * np.sqrt(np.diag(covariance))
    *values, _ = found.x * scale
    fitted = tuple(
        Fitted(p, float(v), max(p.low_ns, float(v - s)), min(p.high_ns, float(v + s)))
        for p, v, s in zip(parameters, values, spread, strict=True)
    )
    for parameter, width in zip(parameters, spread, strict=True):
        _require_told(parameter, float(width))
    known = dict(zip(names, map(float, values), strict=True))
    return _calibration(fitted, known, evidence, simulations, profile_bias, joint)


def _calibration(
    fitted: tuple[Fitted, ...],
    values: dict[str, float],
    evidence: Sequence[Evidence],
    simulations: Sequence[Resimulation],
    profile_bias: float,
    joint: Joint | None = None,
) -> Calibration:
    errors = (
        _errors(each.figures, simulation, values)
        for each, simulation in zip(evidence, simulations, strict=True)
    )
    run_ids = tuple(each.run_ids for each in evidence)
    return Calibration(fitted, tuple(errors), run_ids, profile_bias, joint)


def _scale(parameter: Parameter) -> float:
    """A size at which the optimizer's steps mean something."""
    return parameter.prior_ns or 1e7


def _start(simulations: Sequence[Resimulation], parameters: Sequence[Parameter]) -> None:
    for each in simulations:
        each.simulate(0.0)
        for parameter in parameters:
            if parameter.name == "engine_time":
                each.simulate(parameter.prior_ns or parameter.high_ns)


def _logs(figures: Figures) -> np.ndarray:
    import numpy as np

    logs: np.ndarray = np.log(np.array([figures[m][s] for m in _METRICS for s in STATISTICS]))
    return logs


def _covariance(workloads: int, profile_bias: float) -> Any:
    """Of the log figures: noise of each and of each run, and what the profile's error is at a load.

    All TPOT of a load is off by it alike. A wait for running steps, which TTFT is as much as a
    step, makes of it something else at each percentile, so there it counts for each by itself.
    """
    import numpy as np

    ttft, tpot = (np.kron(np.diag(each), np.ones((len(STATISTICS),) * 2)) for each in np.eye(2))
    noise = _NOISE**2 * (np.eye(len(ttft)) + ttft + tpot)
    untold = not_told(profile_bias, profile_bias)
    own = noise + profile_bias**2 * np.diag(np.diag(ttft)) + untold**2 * tpot
    return np.kron(np.eye(workloads), own)


def _errors(
    real: Figures, simulation: Resimulation, values: dict[str, float]
) -> dict[str, dict[str, float]]:
    found = simulation.figures(values.get("engine_time", 0.0), values.get("front_end", 0.0))
    return {
        metric: {
            name: round(found[metric][name] / real[metric][name] - 1, 5) for name in STATISTICS
        }
        for metric in _METRICS
    }


def _require_below_saturation(simulations: Sequence[Resimulation], parameter: Parameter) -> None:
    """Near what an engine can serve, a queue decides TTFT, and no parameter is told by it."""
    import numpy as np

    more = parameter.prior_ns or parameter.high_ns
    for each in simulations:
        longer = np.log1p(more / each.mean_step_ns)
        one, other = each.figures(0.0, 0.0), each.figures(more, 0.0)
        grown = np.log(other["ttft"]["p90"] / one["ttft"]["p90"])
        if grown > _MAGNIFIED * longer:
            raise UsageError(
                f"these runs cannot tell the {parameter.words}: their load is near what the engine "
                f"can serve, where 1% of step time is {grown / longer:.0f}% of TTFT; measure at a "
                "lower rate"
            )


def _require_told(parameter: Parameter, width_ns: float) -> None:
    if parameter.prior_ns is not None and width_ns > _UNTOLD * _Z * parameter.prior_ns:
        raise UsageError(
            f"these runs cannot tell the {parameter.words} from an error of the profile; it takes "
            f"{parameter.told_by}"
        )
