"""Read Pascal VOC: one XML per image, with or without `ImageSets/Main` (Everingham et al., 2010).

An XML belongs to the image with its own name, as the format defines; the `filename` inside, which tools often leave
stale, is used only if there is no such image. defusedxml refuses entities and document types, so nothing is fetched
or expanded.
"""

from __future__ import annotations

import math
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from headstart.data.boxes.draft import (
    Draft,
    DraftBox,
    DraftImage,
    LayoutSource,
    Values,
    ignore_reason,
    is_prediction,
    number,
)
from headstart.data.boxes.files import ImageIndex, split_of_folders, split_of_name
from headstart.data.boxes.formats import BoxFormat
from headstart.data.boxes.outlines import bounds, rotated_bounds
from headstart.data.file_tree import LocatedFile, clean_label
from headstart.data.formats import IMAGES
from headstart.data.text import decode, text_lines
from headstart.errors import MissingExtraError
from headstart.types.codes import ReadingKind, ReadingNote

__all__ = ["is_voc", "parse_xml", "read_voc"]

_EXAMPLES = 5
_MAX_BYTES = 64 << 20
_BNDBOX = BoxFormat("xyxy")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_ROTATED = ("cx", "cy", "w", "h", "angle")
_ROOT = re.compile(rb"<annotation[\s>/]")
_AMPERSAND = re.compile(r"&(?!(?:#\d+|#x[0-9a-fA-F]+|amp|lt|gt|quot|apos);)")
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")


def is_voc(path: str) -> bool:
    """Return whether an XML file looks like an annotation, from its beginning."""
    try:
        with open(path, "rb") as file:
            return _ROOT.search(file.read(4096).replace(b"\0", b"").lower()) is not None
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
    splits, listed = _image_sets(lists, {os.path.splitext(image.file)[0] for image in index.images})
    source_of: dict[str, str] = {}
    stale: list[str] = []
    encodings: dict[str, list[str]] = defaultdict(list)
    outlines = 0
    for file in files:
        tree = parse_xml(draft, file, "annotation", encodings)
        if tree is None:
            continue
        stem = os.path.splitext(file.file)[0]
        stated = (tree.findtext("filename") or "").strip()
        image = _find_image(index, file, stem, stated)
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
        outlines += sum(box.layout_source == "outline" for box in drafted.boxes)
        draft.images.append(drafted)
    draft.sources |= dict.fromkeys(listed.values(), "splits")
    _add_listed(draft, index, source_of, splits, listed)
    if outlines:
        draft.notes.append(ReadingNote(ReadingKind.OUTLINES_BOXED, outlines))
    draft.note_encodings(encodings)
    if stale:
        draft.notes.append(ReadingNote(ReadingKind.FILE_NAMES_STALE, len(stale), tuple(stale[:_EXAMPLES])))
    if splits:
        without = [p.file for p in draft.images if not p.split]
        draft.note_images(ReadingKind.IMAGES_IN_NO_SPLIT, without, file="ImageSets")
    return draft


def _find_image(index: ImageIndex, file: LocatedFile, stem: str, stated: str) -> LocatedFile | None:
    """Return the image with the name of the XML, else the one that the XML names."""
    image = index.by_stem(file.folders, stem)
    if image is None and stated:
        image = index.by_file(file.folders, stated) or index.by_stem(file.folders, os.path.splitext(stated)[0])
    return image


def _add_listed(
    draft: Draft, index: ImageIndex, source_of: dict[str, str], splits: dict[str, str], listed: dict[str, str]
) -> None:
    """Add images that a list names but no XML describes, and report names in lists without image."""
    for image in index.images:
        if image.path in source_of:
            continue
        stem = os.path.splitext(image.file)[0]
        if stem in splits:  # listed in a split, so it is an image without objects
            draft.images.append(DraftImage(image, "", splits[stem]))
        else:
            draft.refuse(image.name, "no-annotation", "has no XML; an XML without objects marks an empty image")
    present = {os.path.splitext(image.file)[0] for image in index.images}
    for stem, file in listed.items():
        if stem not in present:
            draft.refuse(f"{file}: {stem}", "no-image", "no such image")


def parse_xml(draft: Draft, file: LocatedFile, tag: str, encodings: dict[str, list[str]]) -> Any | None:
    """Return the root element, or None if the file is refused.

    Text that is not UTF-8 and does not say so is decoded by its bytes; a lone `&` is read as written.

    Args:
        draft: Receives the problem.
        file: The XML file.
        tag: Expected tag of the root element.
        encodings: Receives the files by guessed encoding.
    """
    from xml.etree.ElementTree import ParseError

    try:
        from defusedxml import DefusedXmlException
        from defusedxml.ElementTree import fromstring
    except ImportError as error:
        raise MissingExtraError("reading XML annotations", "train") from error
    try:
        if os.path.getsize(file.path) > _MAX_BYTES:
            draft.refuse(file.name, "too-large", f"more than {_MAX_BYTES >> 20} MB of XML")
            return None
        with open(file.path, "rb") as opened:
            data = opened.read()
        try:
            element = fromstring(data, forbid_dtd=True)
        except (ParseError, ValueError, LookupError):
            text, encoding = decode(data)
            element = fromstring(_AMPERSAND.sub("&amp;", _DECLARATION.sub("", text)), forbid_dtd=True)
            if encoding != "utf-8":
                encodings[encoding].append(file.name)
    except DefusedXmlException:
        draft.refuse(file.name, "entity", "entities and document types are refused (they may fetch files)")
        return None
    except ParseError as error:
        draft.refuse(file.name, "bad-xml", f"this is not well-formed XML ({error})")
        return None
    except (OSError, ValueError, LookupError) as error:
        draft.refuse(file.name, "bad-xml", f"this XML cannot be read ({error})")
        return None
    if element.tag != tag:
        draft.refuse(file.name, "bad-xml", f"its first element is <{element.tag}>; expected <{tag}>")
        return None
    return element


def _boxes(draft: Draft, file: LocatedFile, tree: Any) -> list[DraftBox]:
    boxes = []
    for position, item in enumerate(tree.findall("object"), start=1):
        where = f"object {position}"
        label = (item.findtext("name") or "").strip()
        if not label:
            draft.refuse(file.name, "no-class", f"{where} has no <name>")
            continue
        attributes = {child.tag: child.text for child in item}
        if is_prediction(attributes):
            draft.refuse(file.name, "prediction", f"{where} has a score, as predictions have")
            continue
        ignored = ignore_reason(attributes, label)
        found = [*_frames(item)]
        for values, missing, is_outline in found:
            if values is None:
                draft.refuse(file.name, "no-box", f"{where} (`{clean_label(label)}`) has no number for {missing}")
                continue
            source: LayoutSource = "outline" if is_outline else "names"
            boxes.append(DraftBox(values, _BNDBOX, label, where, ignored, layout_source=source))
        if not found:
            draft.refuse(file.name, "no-box", f"{where} (`{clean_label(label)}`) has no <bndbox>")
    return boxes


def _frames(item: Any) -> Iterator[tuple[Values | None, str, bool]]:
    """Yield corners (None without them), the missing fields, and whether they are bounds, of each box of an object."""
    for kind, fields in (("bndbox", _CORNERS), ("robndbox", _ROTATED)):
        for frame in item.findall(kind):
            read = {name: number(frame.findtext(name)) for name in fields}
            values = [value for value in read.values() if value is not None]
            if len(values) < len(fields):
                yield None, ", ".join(name for name, value in read.items() if value is None), False
            elif kind == "bndbox":
                yield (values[0], values[1], values[2], values[3]), "", False
            else:
                is_finite = all(map(math.isfinite, values))
                yield rotated_bounds(*values) if is_finite else (math.nan,) * 4, "", True
    if item.find("bndbox") is None and item.find("robndbox") is None:
        for polygon in item.findall("polygon"):
            points = [[p.findtext("x"), p.findtext("y")] for p in polygon.findall("pt")]
            numbered = [child.text for child in polygon if re.fullmatch(r"[xy]\d+", child.tag)]
            corners = bounds(points or numbered)
            yield corners, "<polygon>", True


def _stated_size(tree: Any) -> tuple[int, int] | None:
    """Return the stated height and width; zeros, which some tools write, count as missing."""
    height, width = (number(tree.findtext(f"size/{side}")) for side in ("height", "width"))
    if height is None or width is None or not (1 <= height < 1e6 and 1 <= width < 1e6):
        return None
    return round(height), round(width)


def _image_sets(lists: Sequence[LocatedFile], stems: Collection[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return splits by stem from `ImageSets/Main/{train,val,test,trainval}.txt`, and the list of each stem."""
    by_name = {}
    for file in lists:
        places = [f.casefold() for f in file.folders]
        if "imagesets" in places and places[-1] in ("main", "imagesets"):
            by_name[os.path.splitext(file.file)[0].casefold()] = file
    splits: dict[str, str] = {}
    source: dict[str, str] = {}
    for name in ("trainval", "train", "val", "valid", "test"):  # the finer lists come later and override
        if name in by_name:
            for line in filter(None, map(str.strip, text_lines(by_name[name].path))):
                stem = line if line in stems else _listed_stem(line)
                splits[stem] = "train" if name == "trainval" else split_of_name(name)
                source[stem] = by_name[name].name
    return splits, source


def _listed_stem(line: str) -> str:
    """Return the stem in a line: without flag (`name 1`), folders and the extension of an image."""
    head, _, flag = line.rpartition(" ")
    name = (head if head and flag in ("-1", "0", "1") else line).strip().replace("\\", "/").rpartition("/")[2]
    stem, ending = os.path.splitext(name)
    return stem if ending.lower() in IMAGES or ending.lower() == ".xml" else name
