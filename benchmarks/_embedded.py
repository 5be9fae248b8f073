"""Provide features of real images, extracted once by `headstart.embed` and cached."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import headstart
from benchmarks._common import bench_data
from headstart.api.demo import write_solar_csv

FOLDERS = ("clothing", "hand_drawn_shapes", "blood_cells", "covid_xray")
SETS = (*FOLDERS, "elpv")


@dataclass(frozen=True)
class Embedded:
    """Features and labels of one dataset.

    Attributes:
        name: Name of the dataset.
        blocks: (N, D_b) float32 by block name, early stages first.
        class_ids: (N,).
        class_names: (K,).
        is_train: (N,) not in the published test split; two thirds of the modules for solar cells, which have none.
        groups: (N,) module of a solar cell or person who drew a shape; None for other datasets.
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
    """Return one of `SETS` with features of the default backbone."""
    if name == "elpv":
        return _solar_cells()
    embedded = headstart.embed(bench_data() / name)
    class_names, class_ids = np.unique(np.array(embedded.labels, dtype=str), return_inverse=True)
    first = [path.split("/")[0].lower() for path in embedded.paths]
    groups = None
    if name == "hand_drawn_shapes":
        person = [Path(path).name.split(".")[1] for path in embedded.paths]
        groups = np.unique(person, return_inverse=True)[1]
    is_train = np.array([split != "test" for split in first])
    return Embedded(name, embedded.blocks, class_ids, tuple(map(str, class_names)), is_train, groups)


def _solar_cells() -> Embedded:
    with tempfile.TemporaryDirectory() as scratch:
        table = Path(scratch) / "solar.csv"
        write_solar_csv(table)
        rows = [line.rsplit(",", 2) for line in table.read_text(encoding="utf-8").splitlines()[1:]]
        embedded = headstart.embed(table, allow_external_paths=True)
    module = {Path(path.strip('"')).name: group for path, _, group in rows}
    groups = np.unique([module[Path(path).name] for path in embedded.paths], return_inverse=True)[1]
    class_names, class_ids = np.unique(np.array(embedded.labels, dtype=str), return_inverse=True)
    return Embedded("elpv", embedded.blocks, class_ids, tuple(map(str, class_names)), groups % 3 != 0, groups)
