"""Run mutations against every reader, and count what is no clear error.

A finding is an exception that is not for the user, a message of several lines or with signs that a
terminal obeys, a warning of numpy's or pandas', a file outside the place to write in, something
left of an artifact that was refused, or more than some seconds of the processor's time.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import FrameType

from pytest_gpusim.errors import GpusimError, GpusimWarning
from tests.fuzz.mutations import mutate
from tests.fuzz.readers import Reader, readers

_SECONDS = 10


class TooSlow(Exception):
    """A case took longer than it may."""


def _alarm(number: int, frame: FrameType | None) -> None:
    raise TooSlow


def run_case(reader: Reader, place: Path, draw: random.Random) -> tuple[str | None, bytes]:
    """One mutated input against one reader: what was found, None where nothing, and the input."""
    source = draw.choice(reader.seeds)
    given = place / "in" / source.name
    given.parent.mkdir(parents=True)
    if source.is_dir():
        shutil.copytree(source, given)
        changed = draw.choice(
            sorted(path for path in given.rglob(reader.changed) if path.is_file())
        )
    else:
        shutil.copyfile(source, given)
        changed = given
    content = mutate(changed.read_bytes(), changed.suffix, draw)
    changed.write_bytes(content)
    before = set(place.rglob("*"))
    out = place / "out"
    out.mkdir()
    found = _finding(reader, given, out)
    if found is None:
        strays = [path for path in place.rglob("*") if path not in before and path != out]
        outside = [path for path in strays if out not in path.parents]
        if outside:
            found = f"wrote outside its place: {outside[0]}"
    return found, content


def _finding(reader: Reader, given: Path, out: Path) -> str | None:
    signal.setitimer(signal.ITIMER_PROF, _SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("default", DeprecationWarning)
            warnings.simplefilter("ignore", GpusimWarning)
            reader.read(given, out)
    except GpusimError as error:
        signal.setitimer(signal.ITIMER_PROF, 0)
        said = str(error)
        if not said.isprintable():
            return f"message is not printable: {said!r}"
        if len(said) > 2000:
            return f"message of {len(said)} characters: {said[:200]}…"
        left = sorted(path for path in out.rglob("*") if ".partial-" in path.name)
        return f"left {left[0]}" if left else None
    except TooSlow:
        return f"took more than {_SECONDS} s of the processor"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"[:400]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return None


def main() -> int:
    """Fuzz for so many minutes of the processor's time, so that a busy machine finds as much.

    The exit code is 1 where anything was found; an interrupt ends it early, with its totals.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", metavar="TEXT", default="", help="readers whose name has it")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep inputs with a finding here")
    options = parser.parse_args()
    signal.signal(signal.SIGPROF, _alarm)
    cases: Counter[str] = Counter()
    findings: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    seen: set[tuple[str, str]] = set()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="gpusim-fuzz-") as folder:
        scratch = Path(folder)
        (scratch / "seeds").mkdir()
        chosen = [r for r in readers(scratch / "seeds") if options.only in r.name and r.seeds]
        if not chosen:
            parser.error(f"no reader has {options.only!r} in its name")
        began_at = time.process_time()
        end = began_at + options.minutes * 60
        number = 0
        with suppress(KeyboardInterrupt):  # what was found until then
            while time.process_time() < end:
                # By the processor's time, not by cases: quick readers get more of those.
                reader = min(chosen, key=lambda each: seconds[each.name] / each.share)
                number += 1
                place = scratch / "case"
                began = time.process_time()
                found, content = run_case(reader, place, draw)
                seconds[reader.name] += time.process_time() - began  # type: ignore[assignment]
                cases[reader.name] += 1
                if found is not None:
                    findings[reader.name] += 1
                    if (reader.name, found) not in seen:
                        seen.add((reader.name, found))
                        print(f"{reader.name}: {found}", flush=True)
                        if options.keep is not None:
                            options.keep.mkdir(parents=True, exist_ok=True)
                            name = f"{reader.name.replace(' ', '-')}-{number}"
                            (options.keep / name).write_bytes(content)
                shutil.rmtree(place, ignore_errors=True)
    print(f"{'reader':24} {'cases':>8} {'findings':>8} {'seconds':>8}")
    for name in sorted(cases):
        print(f"{name:24} {cases[name]:8} {findings[name]:8} {seconds[name]:8.0f}")
    total = sum(findings.values())
    print(f"{'all':24} {sum(cases.values()):8} {total:8} {time.process_time() - began_at:8.0f}")
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
