"""Run all benchmarks (`make bench`), or some: `python -m benchmarks pipeline probe`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def main() -> int:
    """Run the given benchmarks, or all. Missed targets are printed and do not change the exit code."""
    known = sorted(p.stem.removeprefix("bench_") for p in Path(__file__).parent.glob("bench_*.py"))
    names = sys.argv[1:] or known
    for name in names:
        if name not in known:
            print(f"unknown benchmark `{name}`; choose from: {', '.join(known)}", file=sys.stderr)
            return 2
        print(f"== {name}", flush=True)
        importlib.import_module(f"benchmarks.bench_{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
