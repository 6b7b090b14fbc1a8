"""Print the operating characteristics: ``python -m benchmarks.verdicts [--trials N]``.

False passes are what passes at e = τ and 2τ, false failures what fails at e = 0 and τ/2, detection
what fails at 2τ. A figure that is off by its tolerance passes and fails in 5% each.
"""

from __future__ import annotations

import argparse
from functools import partial

from benchmarks.verdicts.tables import CASES, FIGURES, normal, queued, table

QUEUED = ((0.10, 0.01, (3, 5)), (0.10, 0.03, (3, 5)), (0.05, 0.01, (3, 5)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2000)
    options = parser.parse_args()
    few = max(options.trials // 10, 50)
    print("Pass/fail/inconclusive in percent.\n")
    print(table("One figure, normal noise", partial(normal, trials=options.trials), CASES))
    print(
        table(
            "A comparison of six figures, normal noise that they share by half",
            partial(normal, trials=options.trials, figures=6, correlation=0.5),
            CASES,
        )
    )
    for utilisation in (0.5, 0.9):
        one = partial(queued, trials=few, pick=[("ttft", 50)], utilisation=utilisation)
        print(table(f"TTFT p50 of a queue at {utilisation:.0%}", one, QUEUED))
        every = partial(queued, trials=few, pick=FIGURES, utilisation=utilisation)
        print(table(f"A comparison of six figures, queue at {utilisation:.0%}", every, QUEUED))


if __name__ == "__main__":
    main()
