"""Provide features of real images, extracted once by `headstart.embed` and cached."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import headstart
from benchmarks._common import bench_data
from headstart.demo import write_solar_csv

FOLDERS = ("clothing", "hand_drawn_shapes", "blood_cells", "covid_xray")
SETS = (*FOLDERS, "elpv")


@dataclass(frozen=True)
class Embedded:
    """One set of images.

    Attributes:
        name: Its name.
        blocks: (N, D_b) float32 by block name, from early to late.
        class_ids: (N,).
        class_names: K names.
        is_train: (N,) not in the set's own test split; the solar cells have none: two thirds of the modules.
        groups: (N,) the module of a solar cell, the person who drew a shape; None elsewhere.
    """

    name: str
    blocks: dict[str, NDArray[np.float32]]
    class_ids: NDArray[np.int64]
    class_names: tuple[str, ...]
    is_train: NDArray[np.bool_]
    groups: NDArray[np.int64] | None

    def take(self, index: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
        """Return the blocks of some images."""
        return {name: block[index] for name, block in self.blocks.items()}


def load(name: str) -> Embedded:
    """Return one of `SETS`, by the default backbone."""
    if name == "elpv":
        return _solar_cells()
    found = headstart.embed(bench_data() / name)
    class_names, class_ids = np.unique(np.array(found.labels, dtype=str), return_inverse=True)
    first = [path.split("/")[0].lower() for path in found.paths]
    groups = None
    if name == "hand_drawn_shapes":
        person = [Path(path).name.split(".")[1] for path in found.paths]
        groups = np.unique(person, return_inverse=True)[1]
    is_train = np.array([split != "test" for split in first])
    return Embedded(name, found.blocks, class_ids, tuple(map(str, class_names)), is_train, groups)


def _solar_cells() -> Embedded:
    with tempfile.TemporaryDirectory() as scratch:
        table = Path(scratch) / "solar.csv"
        write_solar_csv(table)
        rows = [line.rsplit(",", 2) for line in table.read_text(encoding="utf-8").splitlines()[1:]]
        found = headstart.embed(table, allow_external_paths=True)
    module = {Path(path.strip('"')).name: group for path, _, group in rows}
    groups = np.unique([module[Path(path).name] for path in found.paths], return_inverse=True)[1]
    class_names, class_ids = np.unique(np.array(found.labels, dtype=str), return_inverse=True)
    return Embedded("elpv", found.blocks, class_ids, tuple(map(str, class_names)), groups % 3 != 0, groups)
