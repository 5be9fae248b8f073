"""Test finding folders that hold the same images in several versions."""

import pytest

from headstart.data.folder_copies import find_versions

CLASSES = ("cat", "dog")


def files(pattern: str, count: int = 3) -> list[tuple[str, str]]:
    return [(name, pattern.format(i)) for name in CLASSES for i in range(count)]


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        ({"gray": files("{}.jpg"), "color": files("{}.jpg")}, ["color", "gray"]),
        ({"b": files("{}_final_masked.jpg"), "z": files("{}.jpg")}, ["z", "b"]),
        ({"b": files("IMG_20200101_{}.jpg"), "a": files("IMG_20200101_{}.jpg")}, ["a", "b"]),
        ({"bands": files("s{}.tif"), "jpegs": files("s{}.jpg")}, ["bands", "jpegs"]),
        ({"many": [*files("{}_a.jpg"), *files("{}_b.jpg")], "few": files("{}.jpg")}, ["few", "many"]),
        ({"amazon": files("frame_{}.jpg"), "dslr": files("frame_{}.jpg")}, []),
        ({"shirt": files("{}.jpg"), "dress": files("{}.jpg")}, []),
        ({"raw": files("{}.jpg"), "augmented": files("x{}.jpg")}, []),
        ({"raw": files("{}.jpg", 9), "augmented": files("{}.jpg")}, []),
    ],
)
def test_versions_of_the_same_images(folders: dict[str, list[tuple[str, str]]], expected: list[str]) -> None:
    assert find_versions(folders) == expected
