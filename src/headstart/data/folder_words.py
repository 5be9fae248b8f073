"""Recognize folders by what they store: images, or masks and other files about images."""

from __future__ import annotations

__all__ = ["AUXILIARY", "STORAGE", "is_storage_name"]

STORAGE = frozenset(
    {
        *("image", "images", "img", "imgs", "jpg", "jpgs", "jpeg", "jpegs", "png", "pngs"),
        *("photo", "photos", "picture", "pictures", "pics", "rgb"),
    }
)
"""Names, in lower case, of folders that only store images."""

AUXILIARY = frozenset(
    {
        *(
            "mask",
            "masks",
            "segmentation",
            "segmentations",
            "annotation",
            "annotations",
            "trimap",
            "trimaps",
            "gt",
            "groundtruth",
            "ground_truth",
        ),
        *("label", "labels", "thumb", "thumbs", "thumbnails"),
    }
)
"""Names, in lower case, of folders of images that are not those of the dataset."""


def is_storage_name(name: str) -> bool:
    """Return whether a folder name says only that images are stored there: `images`, `img`, `photos_2`."""
    words = name.lower().replace("-", "_").split("_")
    return any(word in STORAGE for word in words)
