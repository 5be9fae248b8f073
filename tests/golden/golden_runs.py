"""The golden runs: fixed data, settings and seeds; each leaves files in a folder of its own.

Every run is a function of an empty folder, which is the working directory, so that paths are relative. It returns
further results as JSON values by name.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import golden_images as images
from golden_compare import Tolerance

import headstart

RUNS: dict[str, GoldenRun] = {}


@dataclass(frozen=True)
class GoldenRun:
    """One run.

    Attributes:
        make: Makes data and results in the working directory; the run folder is `run`.
        is_quick: Whether the default suite has it.
        tolerance: How far floats may lie from the record.
        is_chaotic: Whether rounding errors grow so far that numbers can only be compared on one type of machine.
    """

    make: Callable[[], dict[str, Any]]
    is_quick: bool
    tolerance: Tolerance
    is_chaotic: bool


def golden(
    *, is_quick: bool = False, tolerance: Tolerance | None = None, is_chaotic: bool = False
) -> Callable[..., Any]:
    """Register a function as a golden run under its name."""

    def register(make: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
        RUNS[make.__name__] = GoldenRun(make, is_quick, tolerance or Tolerance(), is_chaotic)
        return make

    return register


TRAINED = Tolerance(relative=3e-3, absolute=5e-6)  # differences of rounding grow with every step
ALL = images.CLASSES


def probe(data: Path, **settings: Any) -> headstart.Run:
    """Return a probe whose features are computed afresh."""
    return headstart.train(data, out="run", num_threads=1, seed=0, cache=False, include_images=False, **settings)


def tuned(data: Path, **settings: Any) -> headstart.Run:
    """Return a training by gradient of two epochs in float32, with few stored views."""
    fixed = {
        "epochs": 2,
        "num_views": 2,
        "num_threads": 1,
        "seed": 0,
        "include_images": False,
        "finetune.precision": "float32",
    }
    return headstart.train(data, out="run", **(fixed | settings))


def detector(data: Path, **settings: Any) -> headstart.Run:
    """A small detector on random weights; after so few steps it finds nothing, but rounding errors stay small."""
    fixed = {
        "backbone": "timm:resnet10t",
        "weights": "none",
        "image_size": 64,
        "num_views": 1,
        "epochs": 4,
        "num_threads": 1,
    }
    small = {"detect.fpn_channels": 16, "detect.head_depth": 1, "detect.min_stride": 8, "seed": 0}
    return headstart.train(data, out="run", **(fixed | small | settings))


def answers(run: headstart.Run, new: Path, **options: Any) -> dict[str, Any]:
    """Predictions and scores of a run's bundle on other images, in the files that `headstart predict` writes."""
    model = headstart.load(run.folder, num_threads=1)
    Path("predict").mkdir()
    model.predict(str(new), **options).to_csv(Path("predict") / "predicted.csv")
    return {"evaluate": headstart.evaluate(run.folder, new, num_threads=1).to_json()}


@golden(is_quick=True)
def probe_folders() -> dict[str, Any]:
    """Three classes in folders; predictions and scores on other images, one of them of a class it does not know."""
    data = images.class_folders(Path("data"), dict.fromkeys(ALL[:2], 14) | {ALL[2]: 9})
    new = images.class_folders(Path("new"), dict.fromkeys(ALL, 5), first=500)
    (new / "stripes").rename(new / "zebras")
    return answers(probe(data), new, top=3)


@golden(is_quick=True)
def probe_groups() -> dict[str, Any]:
    """Return a table with groups."""
    probe(images.grouped_table(Path("data")))
    return {}


@golden(is_quick=True)
def probe_user_split() -> dict[str, Any]:
    """Return a user's train, val and test split in which images leak and labels conflict."""
    probe(images.leaky_split(Path("data")))
    return {}


@golden()
def probe_two_classes() -> dict[str, Any]:
    """Return two unequal classes with a test split of its own making, and class weights."""
    data = images.class_folders(Path("data"), {"checks": 40, "discs": 15})
    new = images.class_folders(Path("new"), {"checks": 4, "discs": 4}, first=500)
    return answers(probe(data, test_size=0.25, **{"probe.class_weights": "auto"}), new)


@golden()
def probe_16_bit() -> dict[str, Any]:
    """Gray images of 16 bits; the range of values is chosen."""
    data = images.class_folders(Path("data"), dict.fromkeys(ALL, 14), bits=16)
    new = images.class_folders(Path("new"), dict.fromkeys(ALL, 3), first=500, bits=16)
    return answers(probe(data, resize_mode="squash"), new)


@golden()
def probe_solar() -> dict[str, Any]:
    """Photographs of solar cells with the module as group."""
    probe(solar_table(Path("data"), every=12))
    return {}


@golden(is_quick=True, tolerance=TRAINED)
def finetune_last() -> dict[str, Any]:
    """Return the last stage."""
    data = images.class_folders(Path("data"), dict.fromkeys(ALL, 10))
    new = images.class_folders(Path("new"), dict.fromkeys(ALL, 3), first=500)
    return answers(tuned(data, strategy="finetune", train_from="last-1"), new)


@golden(tolerance=TRAINED)
def finetune_last_2() -> dict[str, Any]:
    """Return the last two stages, on a user's split."""
    tuned(images.user_split(Path("data"), {"train": 14, "val": 6, "test": 6}), strategy="finetune", train_from="last-2")
    return {}


@golden(tolerance=TRAINED)
def finetune_folds() -> dict[str, Any]:
    """Cross-validation of the last stage, with groups."""
    tuned(images.grouped_table(Path("data"), groups=12), strategy="finetune", train_from="last-1", folds=3)
    return {}


@golden(tolerance=TRAINED)
def train_head() -> dict[str, Any]:
    """Return a head by gradient on frozen features."""
    tuned(images.class_folders(Path("data"), dict.fromkeys(ALL, 14)), strategy="head", epochs=6)
    return {}


@golden(tolerance=TRAINED)
def finetune_solar() -> dict[str, Any]:
    """Photographs of solar cells with the module as group."""
    tuned(solar_table(Path("data"), every=26), strategy="finetune", train_from="last-1")
    return {}


@golden(is_quick=True, tolerance=TRAINED)
def detect_head() -> dict[str, Any]:
    """Return a few steps of a detector on a frozen network."""
    detector(images.boxes_table(Path("data"), 24).parent, strategy="head")
    return {}


@golden(tolerance=TRAINED, is_chaotic=True)
def detect_objects() -> dict[str, Any]:
    """Return a detector trained until it finds most of the squares; predictions and scores on other images."""
    data = images.boxes_table(Path("data"), 30).parent
    run = detector(data, strategy="head", epochs=25, batch_size=4)
    return answers(run, images.boxes_table(Path("new"), 6, first=500).parent, min_score=0.2)


@golden(tolerance=TRAINED, is_chaotic=True)
def detect_finetune() -> dict[str, Any]:
    """Return a detector whose last stages train too."""
    detector(images.boxes_table(Path("data"), 24).parent, strategy="finetune")
    return {}


@golden(is_quick=True)
def check_leaks() -> dict[str, Any]:
    """Return the judgement of a leaky split, with the features of a network and on pixels alone."""
    data = images.leaky_split(Path("data"))
    return {
        "check": headstart.check(data, num_threads=1).to_json(),
        "check_pixels": headstart.check(data, num_threads=1, use_network=False).to_json(),
    }


@golden()
def check_groups() -> dict[str, Any]:
    """The judgement of images of objects that were each seen several times, without their groups being listed."""
    table = images.grouped_table(Path("data"))
    folders = Path("folders")
    for line in table.read_text(encoding="utf-8").splitlines()[1:]:
        name, label, group = line.split(",")
        target = folders / label / f"{group}_{Path(name).name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        (table.parent / name).rename(target)
    return {"check": headstart.check(folders, num_threads=1).to_json()}


@golden(is_quick=True)
def check_boxes() -> dict[str, Any]:
    """Return the judgement of a table of boxes with faults of several kinds."""
    data = images.boxes_table(Path("data"), 12, is_faulty=True).parent
    return {"check": headstart.check(data, num_threads=1).to_json()}


def solar_table(folder: Path, *, every: int) -> Path:
    """Copy every so-many-th photograph of the installed package `elpv-dataset` and write its table."""
    from headstart.api.demo import write_solar_csv

    folder.mkdir()
    write_solar_csv(folder / "all.csv")
    with (folder / "all.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[::every]
    (folder / "all.csv").unlink()
    for row in rows:
        row["image"] = shutil.copy(row["image"], folder / Path(row["image"]).name).name
    with (folder / "table.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder / "table.csv"
