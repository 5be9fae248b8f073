"""Exports of spreadsheets, labeling tools and competitions, with folders in other languages and stray copies."""

from __future__ import annotations

import shutil
import unicodedata

import numpy as np
from dataset_files import Files, classes, dataset

OWN = ""  # arranged for this test
KINDS = ("cat", "dog")
PLAIN = [(f"{i}.jpg", KINDS[i // 3]) for i in range(6)]
SPLITS = ("train", "train", "val", "test")
PARTS = [(f"{kind}_{i}.jpg", kind, split) for kind in KINDS for i, split in enumerate(SPLITS)]
THREE = classes(KINDS, none=3)
SPLIT = classes(KINDS, train=2, val=1, test=1)
HELD_OUT = classes(KINDS, train=2, test=1)


def _table(files: Files, *lines: str, name: str = "labels.csv", encoding: str = "utf-8") -> None:
    files.images(*(f"images/{image}" for image, _ in PLAIN))
    files.text(name, *lines, encoding=encoding)


def _folders(files: Files, train: str, test: str) -> None:
    for kind in KINDS:
        files.numbered(f"{train}/{kind}/{{}}.jpg", range(2))
        files.numbered(f"{test}/{kind}/{{}}.jpg", range(2, 3))


def _flat(files: Files) -> None:
    files.images(*(f"images/{name}" for name, _, _ in PARTS))


def _by_class(files: Files) -> None:
    files.images(*(f"{kind}/{name}" for name, kind, _ in PARTS))


@dataset(OWN, ".", THREE)
def decimal_comma_and_semicolon(files: Files) -> None:
    _table(files, "Datei;Klasse;Anteil", *(f"{name};{kind};0,5" for name, kind in PLAIN), encoding="utf-8-sig")


@dataset(OWN, ".", THREE)
def tabs_in_utf_16(files: Files) -> None:
    _table(files, "image\tlabel", *(f"{name}\t{kind}" for name, kind in PLAIN), name="labels.txt", encoding="utf-16")


@dataset(OWN, ".", THREE)
def empty_rows_and_columns_at_the_end(files: Files) -> None:
    _table(files, "image,label,,,", *(f"{name},{kind},,," for name, kind in PLAIN), ",,,,", ",,,,")


@dataset(OWN, ".", THREE)
def line_breaks_inside_quotes(files: Files) -> None:
    _table(files, "image,label,note", *(f'{name},{kind},"first\nsecond, third"' for name, kind in PLAIN))


@dataset(OWN, ".", THREE)
def title_above_the_header(files: Files) -> None:
    _table(files, "Labels of 2024;;", "image;label;by", *(f"{name};{kind};me" for name, kind in PLAIN))


@dataset(OWN, ".", THREE)
def row_numbers_of_pandas(files: Files) -> None:
    _table(files, ",image,label", *(f"{i},{name},{kind}" for i, (name, kind) in enumerate(PLAIN)))


@dataset(OWN, ".", THREE)
def label_before_image(files: Files) -> None:
    _table(files, "label,image", *(f"{kind},{name}" for name, kind in PLAIN))


@dataset(OWN, ".", THREE)
def leading_zeros_lost_in_excel(files: Files) -> None:
    files.images(*(f"images/{i:04}.jpg" for i in range(6)))
    files.text("labels.csv", "id,label", *(f"{i},{KINDS[i // 3]}" for i in range(6)))


@dataset(OWN, ".", THREE)
def names_in_capitals(files: Files) -> None:
    _table(files, "image,label", *(f"{name.upper()},{kind}" for name, kind in PLAIN))


@dataset(OWN, ".", classes(("nan", "null"), none=3))
def classes_called_nan_and_null(files: Files) -> None:
    for kind in ("nan", "null"):
        files.numbered(f"{kind}/{{}}.jpg", range(3))


@dataset(OWN, ".", classes(("1", "2"), none=3), classes(("1.0", "2.0"), none=3))
def whole_numbers_as_floats(files: Files) -> None:
    _table(files, "image,label", *(f"{name},{1 + i // 3}.0" for i, (name, _) in enumerate(PLAIN)))


@dataset(OWN, ".", classes(("01", "02"), none=3))
def leading_zeros_of_classes(files: Files) -> None:
    _table(files, "image,label", *(f"{name},0{1 + i // 3}" for i, (name, _) in enumerate(PLAIN)))


@dataset(OWN, ".", classes(("écrou",), none=6))
def two_unicode_forms(files: Files) -> None:
    for form in ("NFC", "NFD"):
        files.numbered(f"{unicodedata.normalize(form, 'écrou')}/{form}{{}}.jpg", range(3))


@dataset(OWN, ".", classes(("😀", "😡"), none=3))
def emoji_folders(files: Files) -> None:
    for kind in ("😀", "😡"):
        files.numbered(f"{kind}/{{}}.jpg", range(3))


@dataset(OWN, ".", HELD_OUT)
def portuguese_splits(files: Files) -> None:
    _folders(files, "treino", "teste")


@dataset(OWN, ".", HELD_OUT)
def spanish_splits(files: Files) -> None:
    _folders(files, "entrenamiento", "prueba")


@dataset(OWN, ".", classes(KINDS, train=2, val=1), HELD_OUT)
def french_splits(files: Files) -> None:
    _folders(files, "apprentissage", "validation")


@dataset(OWN, ".", HELD_OUT)
def italian_splits(files: Files) -> None:
    _folders(files, "addestramento", "prova")


@dataset(OWN, ".", HELD_OUT)
def chinese_splits(files: Files) -> None:
    _folders(files, "训练集", "测试集")


@dataset(OWN, ".", HELD_OUT)
def split_words_with_set(files: Files) -> None:
    _folders(files, "Training Set", "Test Set")


@dataset(OWN, ".", HELD_OUT)
def split_words_with_numbers(files: Files) -> None:
    _folders(files, "01_train", "02_test")


@dataset(OWN, ".", HELD_OUT)
def splits_named_after_the_dataset(files: Files) -> None:
    _folders(files, "pets-train-v2", "pets-test-v2")


@dataset(OWN, ".", HELD_OUT)
def wrappers_around_splits(files: Files) -> None:
    _folders(files, "archive/data/pets/train/images", "archive/data/pets/test/images")


@dataset(OWN, ".", SPLIT)
def lists_in_capitals(files: Files) -> None:
    _by_class(files)
    for split in ("train", "val", "test"):
        rows = [f"{kind}/{name},{kind}" for name, kind, part in PARTS if part == split]
        files.text(f"{split.upper()}.csv", "path,label", *rows)


@dataset(OWN, ".", SPLIT)
def splits_in_json(files: Files) -> None:
    _by_class(files)
    files.json("split.json", {s: [f"{k}/{n}" for n, k, part in PARTS if part == s] for s in ("train", "val", "test")})


@dataset(OWN, ".", SPLIT)
def splits_in_json_with_class_pairs(files: Files) -> None:
    _flat(files)
    pairs = {s: [[n, KINDS.index(k), k] for n, k, part in PARTS if part == s] for s in ("train", "val", "test")}
    files.json("split_zhou.json", pairs)


@dataset(OWN, ".", SPLIT)
def splits_without_endings(files: Files) -> None:
    _by_class(files)
    for split in ("train", "val", "test"):
        files.text(f"splits/{split}.txt", *(name[:-4] for name, _, part in PARTS if part == split))


@dataset(OWN, ".", classes(KINDS, none=4), refused=("fold0.txt",))
def folds_in_lists(files: Files) -> None:
    _by_class(files)
    for fold in range(4):
        files.text(f"fold{fold}.txt", *(f"{kind}/{kind}_{fold}.jpg" for kind in KINDS))


@dataset(OWN, ".", SPLIT)
def lists_separated_by_pipes(files: Files) -> None:
    _flat(files)
    for split in ("train", "val", "test"):
        files.text(f"{split}.txt", *(f"images/{name}|{kind}" for name, kind, part in PARTS if part == split))


@dataset(OWN, ".", SPLIT)
def split_words_in_capitals(files: Files) -> None:
    _flat(files)
    words = {"train": "TRAINING", "val": "VALIDATION", "test": "TEST"}
    files.text("labels.csv", "image,label,set", *(f"{name},{kind},{words[split]}" for name, kind, split in PARTS))


@dataset(OWN, ".", classes(KINDS, train=2, none=0), classes(KINDS, train=2), classes(KINDS, none=2))
def train_labels_and_submission(files: Files) -> None:
    files.numbered("train/{}.jpg", range(4))
    files.numbered("test/{}.jpg", range(4, 7))
    files.text("train_labels.csv", "id,label", *(f"{i},{KINDS[i // 2]}" for i in range(4)))
    files.text("sample_submission.csv", "id,label", *(f"{i},cat" for i in range(4, 7)))


@dataset(OWN, ".", THREE)
def names_by_number_in_json(files: Files) -> None:
    _table(files, "image,label", *(f"{name},{KINDS.index(kind)}" for name, kind in PLAIN))
    files.json("label_num_to_disease_map.json", {"0": "cat", "1": "dog"})


@dataset(OWN, ".", THREE)
def numbers_by_name_in_json(files: Files) -> None:
    _table(files, "image,label", *(f"{name},{KINDS.index(kind)}" for name, kind in PLAIN))
    files.json("class_indices.json", {"cat": 0, "dog": 1})


@dataset(OWN, ".", THREE)
def numbers_from_one_in_a_table(files: Files) -> None:
    _table(files, "image,label", *(f"{name},{1 + KINDS.index(kind)}" for name, kind in PLAIN))
    files.text("classes.csv", "id,name", "1,cat", "2,dog")


@dataset(OWN, ".", THREE)
def pbtxt_label_map(files: Files) -> None:
    _table(files, "image,label", *(f"{name},{1 + KINDS.index(kind)}" for name, kind in PLAIN))
    files.text("label_map.pbtxt", *(f"item {{\n  id: {i + 1}\n  name: '{kind}'\n}}" for i, kind in enumerate(KINDS)))


@dataset(OWN, ".", THREE)
def names_in_yaml(files: Files) -> None:
    _table(files, "image,label", *(f"{name},{KINDS.index(kind)}" for name, kind in PLAIN))
    files.text("classes.yaml", "names:", "  0: cat", "  1: dog")


@dataset(OWN, ".", THREE, refused=("labels.csv", "classes.txt"))
def three_names_for_numbers_from_one(files: Files) -> None:
    _table(files, "image,label", *(f"{name},{1 + KINDS.index(kind)}" for name, kind in PLAIN))
    files.text("classes.txt", "bird", "cat", "dog")


@dataset(OWN, ".", THREE)
def cvat_imagenet_like(files: Files) -> None:
    files.images(*(f"images/{name}" for name, _ in PLAIN))
    files.text("default.txt", *(f"images/{name} {KINDS.index(kind)}" for name, kind in PLAIN))
    files.text("synsets.txt", *KINDS)


@dataset(OWN, ".", THREE)
def label_box_lines(files: Files) -> None:
    files.images(*(f"images/{name}" for name, _ in PLAIN))
    rows = [f'{{"image": "images/{name}", "label": "{kind}"}}' for name, kind in PLAIN]
    files.text("export.ndjson", *rows)


@dataset(OWN, ".", THREE)
def labels_by_name_in_json(files: Files) -> None:
    files.images(*(f"images/{name}" for name, _ in PLAIN))
    files.json("labels.json", dict(PLAIN))


@dataset(OWN, ".", THREE)
def names_by_class_in_json(files: Files) -> None:
    files.images(*(f"images/{name}" for name, _ in PLAIN))
    files.json("labels.json", {kind: [n for n, k in PLAIN if k == kind] for kind in KINDS})


@dataset(OWN, ".", THREE, never=("*mask*", "masks/*"))
def masks_beside_images(files: Files) -> None:
    for kind in KINDS:
        files.numbered(f"{kind}/{{}}.jpg", range(3))
        files.numbered(f"{kind}/{{}}_mask.png", range(3))


@dataset(OWN, ".", THREE, never=("thumbs/*", "*/thumbs/*"))
def thumbnails_in_each_class(files: Files) -> None:
    for kind in KINDS:
        files.numbered(f"{kind}/{{}}.jpg", range(3))
        files.numbered(f"{kind}/thumbs/{{}}.jpg", range(3))


@dataset(OWN, ".", THREE)
def files_of_operating_systems(files: Files) -> None:
    for kind in KINDS:
        files.numbered(f"{kind}/{{}}.jpg", range(3))
        files.binary(f"{kind}/Thumbs.db")
        files.binary(f"{kind}/.DS_Store")
        files.binary(f"__MACOSX/{kind}/._0.jpg")


@dataset(OWN, ".", THREE)
def loop_of_links(files: Files) -> None:
    for kind in KINDS:
        files.numbered(f"{kind}/{{}}.jpg", range(3))
    (files.root / "cat" / "again").symlink_to(files.root, target_is_directory=True)


@dataset(OWN, "data.tar.gz", THREE)
def packed_by_tar(files: Files) -> None:
    for kind in KINDS:
        files.numbered(f"data/{kind}/{{}}.jpg", range(3))
    shutil.make_archive(str(files.root / "data"), "gztar", files.root / "data")


@dataset(OWN, ".", HELD_OUT)
def one_zip_per_split(files: Files) -> None:
    _folders(files, "train", "test")
    files.pack("train.zip", "train")
    files.pack("test.zip", "test")


@dataset(OWN, "data.npz", classes(("0", "1"), train=3, test=3))
def keras_keys(files: Files) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)
    y = np.repeat([0, 1], 3)
    np.savez(files.path("data.npz"), x_train=pixels[:6], y_train=y, x_test=pixels[6:], y_test=y)


@dataset(OWN, "data.npz", classes(("0", "1"), none=3))
def channels_first_floats(files: Files) -> None:
    pixels = np.random.default_rng(0).random((6, 3, 28, 28), dtype=np.float32)
    np.savez(files.path("data.npz"), images=pixels, labels=np.repeat([0, 1], 3))


@dataset(OWN, "data.npz", THREE)
def names_beside_arrays(files: Files) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 28, 28, 3), dtype=np.uint8)
    np.savez(files.path("data.npz"), X=pixels, y=np.repeat([0, 1], 3), class_names=np.array(KINDS))


@dataset(OWN, ".", THREE, classes(("0", "1"), none=3))
def webdataset_of_cls_and_json(files: Files) -> None:
    for i, (name, kind) in enumerate(PLAIN):
        files.images(f"shard/{name}")
        files.binary(f"shard/{i}.cls", str(KINDS.index(kind)).encode())
        files.json(f"shard/{i}.json", {"label": kind})
    shutil.make_archive(str(files.root / "shard-000000"), "tar", files.root / "shard")
    shutil.rmtree(files.root / "shard")


@dataset(OWN, ".", classes(("a", "b"), none=1))
def one_image_per_class(files: Files) -> None:
    files.images("a/1.jpg", "b/2.jpg")


@dataset(OWN, ".", classes(("cat",), none=4))
def one_class(files: Files) -> None:
    files.numbered("cat/{}.jpg", range(4))


@dataset(OWN, ".", classes(("pets", "plants"), none=6))
def two_datasets_in_one_folder(files: Files) -> None:
    for name in ("pets/cat", "pets/dog", "plants/oak", "plants/fir"):
        files.numbered(f"{name}/{{}}.jpg", range(3))


@dataset(OWN, ".", THREE, never=("augmented/*",))
def augmented_beside_original(files: Files) -> None:
    for kind in KINDS:
        files.numbered(f"original/{kind}/{{}}.jpg", range(3))
        files.numbered(f"augmented/{kind}/{{}}_flip.jpg", range(3))


@dataset(OWN, ".", THREE)
def several_labels_in_two_columns(files: Files) -> None:
    _table(files, "image,cat,dog", *(f"{name},{int(kind == 'cat')},{int(kind == 'dog')}" for name, kind in PLAIN))


@dataset(OWN, ".", THREE)
def scores_beside_labels(files: Files) -> None:
    _table(files, "filename,width,height,label,confidence", *(f"{n},8,8,{k},0.93" for n, k in PLAIN))


@dataset(OWN, ".", THREE)
def title_over_quoted_header(files: Files) -> None:
    _table(files, '"Results, final"', '"image","label"', *(f'"{name}","{kind}"' for name, kind in PLAIN))


@dataset(OWN, ".", THREE)
def title_and_blank_line(files: Files) -> None:
    _table(files, "Etiketten;;", ";;", "Bild;Klasse;Wer", *(f"{name};{kind};ich" for name, kind in PLAIN))


@dataset(OWN, ".", THREE)
def two_title_lines(files: Files) -> None:
    _table(files, "Study 7,,", "Labels of 2024,,", "image,label,by", *(f"{name},{kind},me" for name, kind in PLAIN))


@dataset(OWN, ".", THREE)
def title_after_separator(files: Files) -> None:
    _table(files, "sep=;", "Labels of 2024;", "image;label", *(f"{name};{kind}" for name, kind in PLAIN))


@dataset(OWN, ".", THREE)
def header_with_unnamed_label(files: Files) -> None:
    _table(files, "image,", *(f"{name},{kind}" for name, kind in PLAIN))


@dataset(OWN, ".", THREE)
def ids_of_zero_padded_folders(files: Files) -> None:
    files.images(*(f"images/00{i}.png" for i in range(6)), *(f"previews/{i}.txt.png" for i in range(1)))
    files.text("labels.csv", "id;label", *(f"{i};{KINDS[i // 3]}" for i in range(6)))


@dataset(OWN, ".", THREE)
def json_list_of_categories(files: Files) -> None:
    _table(files, "image,label", *(f"{name},{1 + KINDS.index(kind)}" for name, kind in PLAIN))
    files.json("categories.json", [{"id": i + 1, "name": kind} for i, kind in enumerate(KINDS)])


@dataset(OWN, ".", THREE)
def json_map_below_a_key(files: Files) -> None:
    _table(files, "image,label", *(f"{name},{KINDS.index(kind)}" for name, kind in PLAIN))
    files.json("config.json", {"id2label": {"0": "cat", "1": "dog"}, "num_labels": 2})


@dataset(OWN, ".", THREE)
def numbered_folders_and_yaml(files: Files) -> None:
    for i, _ in enumerate(KINDS):
        files.numbered(f"{i}/{{}}.jpg", range(3))
    files.text("classes.yaml", "0: cat", "1: dog")


@dataset(OWN, ".", SPLIT)
def lists_separated_by_semicolons(files: Files) -> None:
    _flat(files)
    for split in ("train", "val", "test"):
        files.text(f"{split}.lst", *(f"images/{name};{kind}" for name, kind, part in PARTS if part == split))


@dataset(OWN, ".", HELD_OUT)
def turkish_splits(files: Files) -> None:
    _folders(files, "Eğitim", "Test")


@dataset(OWN, ".", classes(("prova", "gatto"), none=3))
def split_word_among_classes(files: Files) -> None:
    files.numbered("prova/{}.jpg", range(3))
    files.numbered("gatto/{}.jpg", range(3))


@dataset(OWN, ".", classes(("cat", "labels"), none=3))
def class_called_labels(files: Files) -> None:
    files.numbered("cat/{}.jpg", range(3))
    files.numbered("labels/{}.jpg", range(3))
    files.numbered("{}.jpg", range(3))


@dataset(OWN, ".", THREE)
def score_column_of_people(files: Files) -> None:
    _table(files, "image,label,score", *(f"{name},{kind},5" for name, kind in PLAIN))


@dataset(OWN, ".", THREE)
def predictions_beside_labels(files: Files) -> None:
    _table(files, "image,label", *(f"{name},{kind}" for name, kind in PLAIN))
    files.text("out.csv", "image,label,probability", *(f"{name},dog,0.9" for name, _ in PLAIN))
