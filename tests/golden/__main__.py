"""Compares the golden runs with their records, or writes the records: see README.md.

The runs are made in a process whose libraries use one thread, which is fixed before they are loaded.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RECORDS, KEYMAP = HERE / "records", HERE / "keymap.json"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def main() -> int:
    """Return 0 where every run equals its record."""
    arguments = read_arguments()
    if arguments.threads is None and any(os.environ.get(k) != v for k, v in ONE_THREAD.items()):
        os.execve(sys.executable, [sys.executable, str(HERE), *sys.argv[1:]], os.environ | ONE_THREAD)
    from golden_runs import RUNS

    unknown = set(arguments.names) - set(RUNS)
    if unknown:
        sys.exit(f"no such run: {', '.join(sorted(unknown))}; there are: {', '.join(RUNS)}")
    names = arguments.names or [n for n, run in RUNS.items() if run.is_quick or not arguments.quick]
    if arguments.migrate:
        migrate()
        return 0
    with contextlib.ExitStack() as stack:
        if "HEADSTART_CACHE" not in os.environ:  # a cache of earlier code would hide what has changed since
            os.environ["HEADSTART_CACHE"] = stack.enter_context(tempfile.TemporaryDirectory(prefix="golden-cache-"))
        return judge(names, arguments)


def judge(names: list[str], arguments: argparse.Namespace) -> int:
    """Make the runs, and write or compare their records."""
    from golden_compare import EXACT, Difference, compare, read_rules
    from golden_record import machine, to_text
    from golden_runs import RUNS

    is_exact, failed = arguments.exact or arguments.out is not None, 0
    against, rules = arguments.against or RECORDS, read_rules(KEYMAP)
    for name in names:
        started = time.monotonic()
        now = make_record(name, is_exact=is_exact)
        seconds = time.monotonic() - started
        if arguments.out is not None:
            write_record(arguments.out / f"{name}.json", {"rules_applied": len(rules), "record": now})
            print(f"{name}: recorded ({seconds:.1f} s)", flush=True)
            continue
        path = against / f"{name}.json"
        held = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rules_applied": 0, "record": {}}
        tolerance = EXACT if arguments.exact else RUNS[name].tolerance
        plain = json.loads(to_text(now))
        differences: list[Difference] = compare(
            held["record"], plain, rules[held["rules_applied"] :], tolerance=tolerance
        )
        made_on = held.get("machine")
        if made_on is not None and made_on != machine() and not (arguments.update or arguments.exact):
            differences = [d for d in differences if d.kind != "changed"]
            print(f"{name}: only its names are compared, since it was recorded on another machine ({made_on})")
        print(f"{name}: {len(differences)} differences ({seconds:.1f} s)", flush=True)
        for difference in differences[:200]:
            print(f"  {difference}", flush=True)
        failed += bool(differences)
        if arguments.update and (differences or not path.exists()):
            where = {"machine": machine()} if RUNS[name].is_chaotic else {}
            write_record(path, {"rules_applied": len(rules), **where, "record": now})
    return 0 if arguments.update else min(failed, 1)


def read_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python tests/golden", description=__doc__)
    parser.add_argument("names", nargs="*", help="runs (default: all)")
    parser.add_argument("--quick", action="store_true", help="only the runs of the default suite")
    parser.add_argument("--update", action="store_true", help="write the records of runs that differ")
    parser.add_argument("--migrate", action="store_true", help="translate all records to the present names; no run")
    parser.add_argument("--out", type=Path, help="write exact records to a folder and compare nothing")
    parser.add_argument("--against", type=Path, help="compare with the records of a folder instead")
    parser.add_argument("--exact", action="store_true", help="to the last bit; with --against, on one machine")
    parser.add_argument("--threads", action="store_true", default=None, help="leave the numbers of threads as they are")
    arguments = parser.parse_args()
    if arguments.exact and arguments.against is None:
        parser.error("--exact needs --against: the records here are rounded")
    return arguments


def make_record(name: str, *, is_exact: bool) -> dict[str, Any]:
    """Make one run in a temporary folder and record what it leaves."""
    from golden_record import clean, collect
    from golden_runs import RUNS

    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="golden-") as folder:
        os.chdir(folder)
        try:
            with contextlib.redirect_stdout(sys.stderr):
                further = RUNS[name].make()
            record = {
                part: collect(Path(part), is_exact=is_exact) for part in ("run", "predict") if Path(part).exists()
            }
        finally:
            os.chdir(before)
    return record | {part: clean(value, is_exact=is_exact) for part, value in further.items()}


def write_record(path: Path, content: dict[str, Any]) -> None:
    """Write a record so that a diff is readable."""
    from golden_record import to_text

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_text(content) + "\n", encoding="utf-8")


def migrate() -> None:
    """Translate all records to the present names, numbers untouched."""
    from golden_compare import flatten, read_rules, translate, unflatten

    rules = read_rules(KEYMAP)
    for path in sorted(RECORDS.glob("*.json")):
        held = json.loads(path.read_text(encoding="utf-8"))
        leaves = translate(flatten(held["record"]), rules[held["rules_applied"] :])
        write_record(path, held | {"rules_applied": len(rules), "record": unflatten(leaves)})


if __name__ == "__main__":
    sys.exit(main())
