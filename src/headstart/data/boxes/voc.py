"""Read Pascal VOC: one XML per image, with or without `ImageSets/Main` (Everingham et al., 2010).

An XML belongs to the image with its own name, as the format defines; the `filename` inside, which tools often leave
stale, is used only if there is no such image. defusedxml refuses entities and document types, so nothing is fetched
or expanded.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from headstart.data.boxes.draft import Draft, DraftBox, DraftImage, number
from headstart.data.boxes.files import ImageIndex, split_of_folders, split_of_name
from headstart.data.boxes.formats import BoxFormat
from headstart.data.file_tree import LocatedFile, clean_label
from headstart.data.lists import first_lines
from headstart.errors import MissingExtraError
from headstart.types.codes import ReadingKind, ReadingNote

__all__ = ["is_voc", "read_voc"]

_EXAMPLES = 5
_MAX_BYTES = 64 << 20
_BNDBOX = BoxFormat("xyxy")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def is_voc(path: str) -> bool:
    """Return whether an XML file looks like an annotation, from its beginning."""
    try:
        with open(path, "rb") as file:
            return b"<annotation" in file.read(4096).lower()
    except OSError:
        return False


def read_voc(root: str, files: Sequence[LocatedFile], lists: Sequence[LocatedFile], index: ImageIndex) -> Draft:
    """Read annotations.

    Args:
        root: The data folder.
        files: The XML files.
        lists: Text files searched for `ImageSets/Main/train.txt` and the like.
        index: The images.
    """
    draft = Draft("VOC XML", root)
    splits, listed = _image_sets(lists)
    source_of: dict[str, str] = {}
    stale: list[str] = []
    for file in files:
        tree = _parse(draft, file)
        if tree is None:
            continue
        stem = os.path.splitext(file.file)[0]
        stated = (tree.findtext("filename") or "").strip()
        image = index.by_stem(file.folders, stem)
        if image is None and stated:
            image = index.by_file(file.folders, stated) or index.by_stem(file.folders, os.path.splitext(stated)[0])
        if image is None:
            expected = f"`{clean_label(stated)}`" if stated else f"`{stem}`"
            draft.refuse(file.name, "no-image", f"no unique image {expected} for this annotation")
            continue
        if image.path in source_of:
            draft.refuse(
                file.name, "second-annotation", f"`{image.name}` already has boxes from `{source_of[image.path]}`"
            )
            continue
        if stated and os.path.splitext(stated)[0].casefold() != stem.casefold():
            stale.append(file.name)
        source_of[image.path] = file.name
        split = splits.get(stem, "") if splits else split_of_folders(image.folders) or split_of_folders(file.folders)
        drafted = DraftImage(image, file.name, split, _stated_size(tree))
        drafted.boxes = _boxes(draft, file, tree)
        draft.images.append(drafted)
    rest = [p for p in index.images if p.path not in source_of]
    for image in rest:
        stem = os.path.splitext(image.file)[0]
        if stem in listed:  # listed in a split, so it is an image without objects
            draft.images.append(DraftImage(image, "", splits.get(stem, "")))
        else:
            detail = "listed in a split but without XML; an XML without objects marks an empty image"
            draft.refuse(image.name, "no-annotation", detail)
    if stale:
        draft.notes.append(ReadingNote(ReadingKind.FILE_NAMES_STALE, len(stale), tuple(stale[:_EXAMPLES])))
    if splits:
        without = [p.file for p in draft.images if not p.split]
        draft.note_images(ReadingKind.IMAGES_IN_NO_SPLIT, without, file="ImageSets")
    return draft


def _parse(draft: Draft, file: LocatedFile) -> Any | None:
    """Return the root element, or None if the file is refused."""
    from xml.etree.ElementTree import ParseError

    try:
        from defusedxml import DefusedXmlException
        from defusedxml.ElementTree import parse
    except ImportError as error:
        raise MissingExtraError("reading VOC XML", "train") from error
    try:
        if os.path.getsize(file.path) > _MAX_BYTES:
            draft.refuse(file.name, "too-large", f"more than {_MAX_BYTES >> 20} MB of XML")
            return None
        element = parse(file.path, forbid_dtd=True).getroot()
    except DefusedXmlException:
        draft.refuse(file.name, "entity", "entities and document types are refused (they may fetch files)")
        return None
    except ParseError as error:
        draft.refuse(file.name, "bad-xml", f"this is not well-formed XML ({error})")
        return None
    except (OSError, ValueError, LookupError) as error:
        draft.refuse(file.name, "bad-xml", f"this XML cannot be read ({error})")
        return None
    if element.tag != "annotation":
        draft.refuse(file.name, "bad-xml", f"its first element is <{element.tag}>; expected <annotation>")
        return None
    return element


def _boxes(draft: Draft, file: LocatedFile, tree: Any) -> list[DraftBox]:
    boxes = []
    for position, item in enumerate(tree.findall("object"), start=1):
        where = f"object {position}"
        label = clean_label(item.findtext("name") or "")
        frame = item.find("bndbox")
        values = [number(frame.findtext(c)) if frame is not None else None for c in _CORNERS]
        if not label:
            draft.refuse(file.name, "no-class", f"{where} has no <name>")
        elif frame is None:
            draft.refuse(file.name, "no-box", f"{where} (`{label}`) has no <bndbox>")
        elif any(v is None for v in values):
            missing = ", ".join(c for c, v in zip(_CORNERS, values, strict=True) if v is None)
            draft.refuse(file.name, "no-box", f"{where} (`{label}`) has no number for {missing}")
        else:
            x0, y0, x1, y1 = (float(v) for v in values if v is not None)
            boxes.append(DraftBox((x0, y0, x1, y1), _BNDBOX, label, where, layout_source="names"))
    return boxes


def _stated_size(tree: Any) -> tuple[int, int] | None:
    """Return the stated height and width; zeros, which some tools write, count as missing."""
    height, width = (number(tree.findtext(f"size/{side}")) for side in ("height", "width"))
    if height is None or width is None or not (1 <= height < 1e6 and 1 <= width < 1e6):
        return None
    return round(height), round(width)


def _image_sets(lists: Sequence[LocatedFile]) -> tuple[dict[str, str], set[str]]:
    """Return splits by image name from `ImageSets/Main/{train,val,test,trainval}.txt`, and all listed names."""
    split_by_name = {}
    for file in lists:
        places = [f.casefold() for f in file.folders]
        if "imagesets" in places and (places[-1] == "main" or places[-1] == "imagesets"):
            split_by_name[os.path.splitext(file.file)[0].casefold()] = file
    splits: dict[str, str] = {}
    for name in ("trainval", "train", "val", "valid", "test"):  # the finer lists come later and override
        if name in split_by_name:
            split = "train" if name == "trainval" else split_of_name(name)
            for line in first_lines(split_by_name[name].path, 10_000_000):
                stem, _, flag = line.strip().rpartition(" ")  # `name 1` in the lists of one class
                if line.strip():
                    splits[line.strip()] = split
                if stem and flag in ("-1", "0", "1"):
                    splits[stem.strip()] = split
    return splits, set(splits)
