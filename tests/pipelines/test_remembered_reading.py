"""Test that a model remembers how its images were read, and that tables are predicted in their order."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

import headstart
from headstart.errors import UsageError
from headstart.types.codes import ReadingKind


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> headstart.Run:
    folder = tmp_path_factory.mktemp("flat")
    return headstart.train(flat(photos, folder / "data"), label_column="shape", out=folder / "run")


def flat(photos: Path, data: Path) -> Path:
    """Copy the images into one folder, with a table of which two columns could be the label."""
    (data / "images").mkdir(parents=True)
    rows = ["photo,shape,color"]
    for i, file in enumerate(sorted(photos.rglob("*.jpg"))):
        shutil.copy(file, data / "images" / f"{i:03}.jpg")
        rows.append(f"{i:03},{file.parent.name},{'rgb'[i % 3]}")
    (data / "table.csv").write_text("\n".join(rows) + "\n")
    return data


def test_used_columns_are_recorded(run: headstart.Run) -> None:
    settings = yaml.safe_load((run.folder / "config.resolved.yaml").read_text())
    assert settings["image_column"]["value"] == "photo"
    assert settings["label_column"]["value"] == "shape"
    assert settings["split_column"]["value"] is None


def test_evaluate_reads_like_training(run: headstart.Run, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="several readings"):
        headstart.check(flat(photos, tmp_path / "same"), use_network=False)
    result = headstart.evaluate(run.folder, tmp_path / "same")
    assert result.known is not None
    assert result.known.num_samples == 48
    assert ReadingKind.READ_AS_TRAINED.value in str([getattr(e, "finding", None) for e in result.events])
    assert headstart.evaluate(run.folder, photos).known is not None  # class folders need no column


def test_rows_of_a_table_are_predicted_in_order(run: headstart.Run, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    for name in ("a", "b", "c"):
        shutil.copy(photos / "discs" / "001.jpg", tmp_path / "test" / f"{name}.jpg")
    (tmp_path / "sample_submission.csv").write_text("id,label\nc,0\na,0\nmissing,0\nb,0\n")
    predictions = run.predict(str(tmp_path / "sample_submission.csv"))
    assert [Path(p.file).stem for p in predictions] == ["c", "a", "missing", "b"]
    assert [p.error is None for p in predictions] == [True, True, False, True]
