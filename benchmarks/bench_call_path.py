"""Count the functions and files that images pass from file to report, and the calls to higher packages.

One cached probe run with its report is profiled. A function counts once, and comprehensions and lambdas do not count.
A call is upward where a package runs code of a higher package, by import or by callback.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import headstart
from benchmarks._common import Figures, bench_data

SOURCE = Path(headstart.__file__).parent
# Packages whose code knows a run, a report or the reading of a dataset, and modules of lower packages that do.
COUNTED = ("data", "quality", "runs", "advice", "pipelines", "tasks", "reports")
COUNTED_MODULES = (
    *("evaluation/binary", "evaluation/class_calibration", "evaluation/head_evaluation", "evaluation/score_summary"),
    *("evaluation/uncertainty", "features/device_choice", "features/extractor", "probe/class_weights"),
    "training/fitted_probe",
)
MAX_FUNCTIONS, MAX_FILES = 170, 30
IMAGES_PER_CLASS = 20


class CallProfile:
    """Records the functions of headstart that run, and the calls between its packages."""

    def __init__(self, layers: tuple[str, ...]) -> None:
        self.order = {name: i for i, name in enumerate(layers)}
        self.functions: set[CodeType] = set()
        self.upward: Counter[tuple[str, str]] = Counter()

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """Handle one event of `sys.setprofile`."""
        path = _path(frame.f_code)
        if event != "call" or path is None:
            return
        self.functions.add(frame.f_code)
        caller = frame.f_back
        while caller is not None and _path(caller.f_code) is None:  # standard library and dependencies in between
            caller = caller.f_back
        if caller is None or frame.f_code.co_name.startswith("<") or frame.f_code.co_name == "__getattr__":
            return
        above = _path(caller.f_code)
        if above is not None and self._rank(path) > self._rank(above):
            self.upward[f"{above}:{caller.f_code.co_qualname}", f"{path}:{frame.f_code.co_qualname}"] += 1

    def __enter__(self) -> CallProfile:
        threading.setprofile(self)
        sys.setprofile(self)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def _rank(self, path: str) -> int:
        return self.order[path.split("/")[0].removesuffix(".py")]

    def by_file(self) -> dict[str, list[str]]:
        """Return the functions that ran, by file."""
        result: dict[str, list[str]] = {}
        for code in self.functions:
            if not code.co_name.startswith("<"):
                result.setdefault(str(_path(code)), []).append(code.co_qualname)
        return {path: sorted(set(names)) for path, names in sorted(result.items())}


def _path(code: CodeType) -> str | None:
    file = code.co_filename
    return file[len(str(SOURCE)) + 1 :] if file.startswith(str(SOURCE)) else None


def _is_counted(path: str) -> bool:
    return path.split("/")[0] in COUNTED or path.removesuffix(".py") in COUNTED_MODULES


def layers() -> tuple[str, ...]:
    """Return the packages of headstart, lowest first, as the layer test reads them."""
    sys.path.insert(0, str(SOURCE.parents[1] / "tests"))
    from test_house import LAYERS

    return tuple(LAYERS)


def main() -> None:
    """Profile a cached run and print one line per package."""
    figures = Figures("call_path")
    with tempfile.TemporaryDirectory() as name:
        data = _few_images(Path(name) / "data")
        headstart.train(str(data), out=str(Path(name) / "first"), verbose=False)
        profile = CallProfile((*layers(), "__init__"))
        with profile:
            headstart.train(str(data), out=str(Path(name) / "second"), verbose=False)
    by_file = profile.by_file()
    counted = {p: names for p, names in by_file.items() if _is_counted(p)}
    num_functions = sum(map(len, counted.values()))
    for package in sorted({p.split("/")[0] for p in counted}):
        files = {p: n for p, n in counted.items() if p.split("/")[0] == package}
        figures.add(f"functions of {package}", sum(map(len, files.values())), note=f"{len(files)} files")
    figures.add("functions", num_functions, f"<= {MAX_FUNCTIONS}", is_met=num_functions <= MAX_FUNCTIONS)
    figures.add("files", len(counted), f"<= {MAX_FILES}", is_met=len(counted) <= MAX_FILES)
    figures.add("functions of all packages", sum(map(len, by_file.values())), note=f"{len(by_file)} files")
    figures.add("upward calls", len(profile.upward), "0", is_met=not profile.upward)
    for (caller, callee), count in sorted(profile.upward.items()):
        print(f"       {caller} -> {callee} ({count})")
    figures.save(functions=counted, upward=[list(pair) for pair in sorted(profile.upward)])


def _few_images(folder: Path) -> Path:
    """Copy some real images of some classes."""
    source = bench_data() / "imagenet_val500"
    classes = sorted(p for p in source.iterdir() if p.is_dir())[:4]
    for one in classes:
        (folder / one.name).mkdir(parents=True)
        files = sorted(p for p in one.iterdir() if p.is_file())[:IMAGES_PER_CLASS]
        for file in files:
            shutil.copy(file, folder / one.name)
    return folder


if __name__ == "__main__":
    main()
