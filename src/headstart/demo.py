"""The demonstration's data: photographs of solar cells that come by pip, as a table headstart reads.

Source: elpv-dataset, S. Deitsch et al., https://github.com/zae-bayern/elpv-dataset, CC BY-NC-SA 4.0: not
for commercial use.  2,624 electroluminescence pictures of cells from 44 solar modules, each with an
expert's probability of a defect.

The one decision: cells of one module belong together, but the table does not name the module.  It lists
them in order, so each run of one cell type is parted evenly into modules of 60 cells, which gives just
the 44 modules (18 mono-, 26 polycrystalline) that the authors report.
"""

from __future__ import annotations

import csv
import importlib.util
import itertools
from pathlib import Path

from headstart.errors import MissingExtraError
from headstart.machine import atomic_file

__all__ = ["LICENCE", "find_solar_cells", "module_of_each", "write_solar_csv"]

LICENCE = "pictures: elpv-dataset, CC BY-NC-SA 4.0 (not for commercial use)"

_CELLS_PER_MODULE = 60
_DEFECTIVE_ABOVE = 0.5


def find_solar_cells() -> Path:
    """The folder of the installed package that holds `labels.csv` and `images/`, without importing it.

    Raises:
        MissingExtraError: The package is not installed.
    """
    spec = importlib.util.find_spec("elpv_dataset")
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place) / "data"
        if (folder / "labels.csv").is_file():
            return folder
    raise MissingExtraError("the demonstration", "demo")


def write_solar_csv(target: Path, source: Path | None = None) -> int:
    """Writes `image,label,group` with absolute paths.

    Args:
        target: The CSV file.
        source: The data folder of the package; found by default.

    Returns:
        Number of pictures.
    """
    source = source or find_solar_cells()
    rows = [line.split() for line in (source / "labels.csv").read_text(encoding="utf-8").splitlines() if line.strip()]
    groups = module_of_each([kind for _, _, kind in rows])
    with atomic_file(target) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("image", "label", "group"))
        for (image, probability, _), group in zip(rows, groups, strict=True):
            label = "defective" if float(probability) > _DEFECTIVE_ABOVE else "functional"
            writer.writerow(((source / image).resolve(), label, f"module{group:02d}"))
    return len(rows)


def module_of_each(kinds: list[str]) -> list[int]:
    """Number of the solar module of each cell, from the cell types in the table's order."""
    modules: list[int] = []
    for _, run in itertools.groupby(kinds):
        size = len(list(run))
        parts = -(-size // _CELLS_PER_MODULE)
        if size <= 1.5 * _CELLS_PER_MODULE:
            parts = 1  # one module of 72 cells, not one of 60 and a rest of 12
        first = modules[-1] + 1 if modules else 1
        modules.extend(first + position * parts // size for position in range(size))
    return modules
