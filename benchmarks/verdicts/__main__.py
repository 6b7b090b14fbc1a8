"""Print the operating characteristics: ``python -m benchmarks.verdicts [--trials N]``.

False passes are what passes at e = ±τ and 2τ, false failures what fails at e = 0 and τ/2, detection
what fails at 2τ. A figure that is off by its tolerance passes and fails in 5% each.
"""

from __future__ import annotations

import argparse
from functools import partial

from benchmarks.verdicts.tables import CASES, FIGURES, QUEUED, normal, queued, rows, table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2000, help="of each row")
    trials = parser.parse_args().trials
    errors = " and ".join(
        f"{100 * (share * (1 - share) / trials) ** 0.5:.1g} points at {share:.0%}"
        for share in (0.05, 0.5)
    )
    print(f"Pass/fail/inconclusive in percent, of {trials} trials each: standard error {errors}.\n")
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


if __name__ == "__main__":
    main()
