"""Print the operating characteristics: ``python -m benchmarks.verdicts [--trials N]``.

False passes are what passes at e = ±τ and 2τ, false failures what fails at e = 0 and τ/2, detection
what fails at 2τ. A figure that is off by its tolerance passes and fails in 5% each. Then what whole
comparisons come to, checks included, of right simulations and honest runs of an engine, and how
often a check names a planted defect of the measurement.
"""

from __future__ import annotations

import argparse
from functools import partial

from benchmarks.verdicts.engine import KINDS
from benchmarks.verdicts.honest import HEADS, PLANTS, VARIED, Setting, found, planted_row, row
from benchmarks.verdicts.tables import CASES, FIGURES, QUEUED, normal, queued, rows, table

PARTS = ("figures", "honest", "planted")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2000, help="of each row of figures")
    parser.add_argument("--comparisons", type=int, default=10, help="of each cell of the others")
    parser.add_argument("--only", choices=PARTS, help="one of the three parts")
    given = parser.parse_args()
    if given.only in (None, "figures"):
        figures(given.trials)
    if given.only in (None, "honest"):
        honest(given.comparisons)
    if given.only in (None, "planted"):
        planted(given.comparisons)


def figures(trials: int) -> None:
    """The rule by itself."""
    print(f"Pass/fail/inconclusive in percent, of {trials} trials each: {_error(trials)}.\n")
    one = partial(normal, trials=trials)
    six = partial(normal, trials=trials, figures=len(FIGURES), alike=0.5)
    print(table("One figure, normal noise", rows(one, CASES)))
    print(table("Six figures, normal noise that they share by half, all off", rows(six, CASES)))
    print(table("The same, one of them off", rows(six, CASES, off=[0])))
    for utilisation in (0.5, 0.9):
        real = partial(queued, trials=trials, utilisation=utilisation)
        where = f"queue at {utilisation:.0%}"
        print(table(f"TTFT p50, {where}", rows(real, QUEUED, pick=[0])))
        print(table(f"Six figures, {where}, all off", rows(real, QUEUED)))
        print(table(f"Six figures, {where}, TTFT p50 off", rows(real, QUEUED, off=[0])))


def honest(trials: int) -> None:
    """Right simulations and honest runs."""
    print("### Right simulations and honest runs of an engine, within 10%\n")
    print(f"In percent, of {trials} comparisons each: {_error(trials)}.\n")
    print(HEADS)
    for kind in KINDS:
        for varied in VARIED:
            setting = Setting(kind, **varied)
            print(row(setting, found(setting, trials)), flush=True)
    print()


def planted(trials: int) -> None:
    """Defects of the measurement."""
    print("### Planted: named as failure/as a warning, in percent\n")
    print(f"| what | check | {' | '.join(KINDS)} |")
    print("| --- " * (2 + len(KINDS)) + "|")
    for name, plant in PLANTS.items():
        print(planted_row(name, plant, KINDS, trials), flush=True)


def _error(trials: int) -> str:
    return "standard error " + " and ".join(
        f"{100 * (share * (1 - share) / trials) ** 0.5:.1g} points at {share:.0%}"
        for share in (0.05, 0.5)
    )


if __name__ == "__main__":
    main()
