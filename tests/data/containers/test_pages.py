"""Test pages of stacks, in reading and in prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from headstart.data.sources import read
from headstart.errors import UsageError
from headstart.preprocessing.image_spec import ImageError, ImageSpec, read_image
from headstart.preprocessing.pages import check_pages

PAGES = np.random.default_rng(0).integers(0, 256, (4, 8, 9), dtype=np.uint8)
SPEC = ImageSpec(size_hw=(8, 9), resize_mode="squash")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))


def put_stack(path: Path, pages: NDArray[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *rest = [Image.fromarray(page) for page in pages]
    first.save(path, save_all=True, append_images=rest)
    return path


def gray(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.repeat(np.rint(values).astype(np.uint8)[..., None], 3, axis=2)


EXPECTED = {
    "1": gray(PAGES[0]),
    "first": gray(PAGES[0]),
    "3": gray(PAGES[2]),
    "max": gray(PAGES.max(axis=0)),
    "mean": gray(PAGES.mean(axis=0)),
    "R=1,G=3": np.dstack([PAGES[0], PAGES[2], np.zeros_like(PAGES[0])]),
    "b=4, r=2": np.dstack([PAGES[1], np.zeros_like(PAGES[0]), PAGES[3]]),
}


@pytest.mark.parametrize("pages", EXPECTED)
def test_reading_and_prediction_select_the_same_pages(tmp_path: Path, pages: str) -> None:
    stack = put_stack(tmp_path / "d" / "a" / "1.tif", PAGES)
    put_stack(tmp_path / "d" / "b" / "2.png", PAGES[:1])
    samples = read(tmp_path / "d", pages=pages)
    assert samples.names == ["a/1.tif", "b/2.png"]
    assert (read_image(samples[0].path, SPEC) == EXPECTED[pages]).all()
    assert (read_image(stack, SPEC.with_(pages=check_pages(pages))) == EXPECTED[pages]).all()
    assert (read_image(samples[1].path, SPEC) == gray(PAGES[0])).all()


def test_stacks_in_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=np.stack([PAGES.repeat(2, 0)] * 4), labels=[0, 1, 0, 1])
    assert (read_image(read(tmp_path / "d.npz", pages="max")[2].path, SPEC) == EXPECTED["max"]).all()


def test_missing_pages_are_problems(tmp_path: Path) -> None:
    stack = put_stack(tmp_path / "d" / "a" / "1.tif", PAGES)
    put_stack(tmp_path / "d" / "b" / "2.tif", PAGES[:2])
    samples = read(tmp_path / "d", pages="3")
    assert samples.names == ["a/1.tif"]
    assert [(p.name, p.kind) for p in samples.problems] == [("b/2.tif", "pages")]
    with pytest.raises(ImageError) as caught:
        read_image(stack, SPEC.with_(pages="9"))
    assert caught.value.kind == "pages"


def test_deep_pages_keep_their_type(tmp_path: Path) -> None:
    put_stack(tmp_path / "d" / "a" / "1.tif", PAGES.astype(np.uint16) * 200)
    put_stack(tmp_path / "d" / "b" / "2.tif", PAGES.astype(np.uint16) * 100)
    with Image.open(read(tmp_path / "d", pages="max")[0].path.split("images.pack")[0] + "images.pack") as image:
        assert image.mode == "I;16"
    assert {p.kind for p in read_problems(tmp_path / "d")} == {"pages"}


def read_problems(folder: Path) -> Any:
    put_stack(folder / "c" / "3.tif", PAGES)
    return read(folder, pages="R=1").problems


@pytest.mark.parametrize("pages", ["0", "all", "R=0", "R=1,R", "X=1", "", "-1", "1.5"])
def test_wrong_pages_are_refused(tmp_path: Path, pages: str) -> None:
    put_stack(tmp_path / "d" / "a" / "1.tif", PAGES)
    with pytest.raises(UsageError, match="--pages"):
        read(tmp_path / "d", pages=pages)
    with pytest.raises(ValueError, match="page"):
        ImageSpec(pages=pages)


def test_specs_without_pages_are_unchanged() -> None:
    assert "pages" not in ImageSpec().to_json()
    assert ImageSpec.from_json(ImageSpec(pages="max").to_json()).pages == "max"
