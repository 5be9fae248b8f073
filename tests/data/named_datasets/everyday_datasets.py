"""Layouts that people arrange themselves: other words, separators, encodings, paths, links and stray files."""

from __future__ import annotations

import os

from dataset_files import Files, classes, dataset

OWN = ""  # arranged for this test
KINDS = ("cat", "dog")
THREE = classes(KINDS, none=3)
SPLITS = classes(KINDS, train=2, val=1, test=1)


def _names(pattern: str = "{kind}_{i}.jpg", count: int = 3) -> list[tuple[str, str]]:
    return [(pattern.format(kind=kind, i=i), kind) for kind in KINDS for i in range(count)]


def _parts(first: str, second: str, third: str) -> list[tuple[str, str]]:
    return [(split, kind) for kind in KINDS for split in (first, first, second, third)]


def _split_folders(files: Files, first: str, second: str, third: str) -> None:
    for i, (split, kind) in enumerate(_parts(first, second, third)):
        files.images(f"{split}/{kind}/{i}.jpg")


@dataset(OWN, ".", SPLITS)
def german_table(files: Files) -> None:
    rows = []
    for i, (split, kind) in enumerate(_parts("Training", "Validierung", "Test")):
        files.images(f"Fotos/Bild {i}.jpg")
        rows.append(f"Bild {i}.jpg;{kind};{split};{i},5")
    files.text("Übersicht.csv", "Datei;Klasse;Aufteilung;Größe", *rows, encoding="cp1252")


@dataset(OWN, ".", THREE)
def utf16_table(files: Files) -> None:
    files.images(*(f"images/{name}" for name, _ in _names()))
    files.text("labels.csv", "image\tlabel", *(f"{n}\t{k}" for n, k in _names()), encoding="utf-16")


@dataset(OWN, ".", THREE)
def decimal_comma_table(files: Files) -> None:
    files.images(*(f"pics/{name}" for name, _ in _names()))
    rows = (f"{n};{1.5 + i:.1f};{k}".replace(".5", ",5") for i, (n, k) in enumerate(_names()))
    files.text("labels.csv", "file;weight;class", *rows, encoding="utf-8-sig")


@dataset(OWN, ".", THREE, refused=("labels.xlsx",))
def spreadsheet_beside_images(files: Files) -> None:
    files.images(*(f"pics/{name}" for name, _ in _names()))
    files.spreadsheet("labels.xlsx", [("image", "label"), *_names()])


@dataset(OWN, ".", SPLITS)
def dev_and_holdout(files: Files) -> None:
    _split_folders(files, "train", "dev", "holdout")


@dataset("https://www.kaggle.com/datasets/trolukovich/food11-image-dataset", ".", SPLITS)
def training_and_evaluation(files: Files) -> None:
    _split_folders(files, "training", "validation", "evaluation")


@dataset(OWN, ".", SPLITS)
def spanish_folders(files: Files) -> None:
    _split_folders(files, "entrenamiento", "validación", "prueba")


@dataset(OWN, ".", SPLITS)
def chinese_folders(files: Files) -> None:
    _split_folders(files, "训练集", "验证集", "测试集")


@dataset(OWN, ".", SPLITS)
def numbered_split_folders(files: Files) -> None:
    _split_folders(files, "01_train", "02_valid", "03_test")


@dataset(OWN, ".", SPLITS)
def lists_with_tabs(files: Files) -> None:
    _lists(files, "\t")


@dataset(OWN, ".", SPLITS)
def lists_with_commas(files: Files) -> None:
    _lists(files, ",")


def _lists(files: Files, separator: str) -> None:
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for i, (split, kind) in enumerate(_parts("train", "val", "test")):
        files.images(f"images/{i}.jpg")
        lists[split].append(f"images/{i}.jpg{separator}{kind}")
    for split, lines in lists.items():
        files.text(f"{split}_list.txt", *lines)


@dataset(OWN, ".", THREE)
def paths_of_another_machine(files: Files) -> None:
    files.images(*(f"photos/{name}" for name, _ in _names()))
    files.text("labels.csv", "path,label", *(f"/home/ana/project/photos/{n},{k}" for n, k in _names()))


@dataset(OWN, ".", THREE)
def windows_list(files: Files) -> None:
    names = _names("{kind}\\{i}.jpg")
    files.images(*(f"pics/{name}".replace("\\", "/") for name, _ in names))
    files.text("list.txt", *(f"C:\\Users\\ana\\My Files\\pics\\{n} {KINDS.index(k)}" for n, k in names))
    files.text("classes.txt", *KINDS)


@dataset(OWN, ".", classes(KINDS, train=2, test=1))
def one_hot_and_flag(files: Files) -> None:
    files.images(*(f"images/{name}" for name, _ in _names()))
    rows = (f"{n},{int(k == 'cat')},{int(k == 'dog')},{int('_2' in n)}" for n, k in _names())
    files.text("labels.csv", "image,cat,dog,is_test", *rows)


@dataset(OWN, ".", THREE)
def numbered_folds(files: Files) -> None:
    files.images(*(f"images/{name}" for name, _ in _names()))
    files.text("folds.csv", "image,label,fold", *(f"{n},{k},{i % 3}" for i, (n, k) in enumerate(_names())))


@dataset(OWN, ".", SPLITS)
def one_table_per_split(files: Files) -> None:
    rows: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for i, (split, kind) in enumerate(_parts("train", "val", "test")):
        files.images(f"images/{i}.jpg")
        rows[split].append(f"images/{i}.jpg,{kind},{30 + i}")
    for split, lines in rows.items():
        files.text(f"{split}.csv", "path,species,age", *lines)


@dataset(OWN, ".", THREE, classes(["1", "2"], none=3))
def folders_numbered_from_one(files: Files) -> None:
    for number in (1, 2):
        files.numbered(f"{number}/{{}}.jpg", range(3))
    files.text("classes.txt", *KINDS)


@dataset(OWN, ".", THREE)
def endings_in_any_case(files: Files) -> None:
    for kind in KINDS:
        files.images(f"{kind}/1.JPG", f"{kind}/2.Jpeg", f"{kind}/3.jpeg.jpg")


@dataset(OWN, ".", THREE)
def stray_files(files: Files) -> None:
    for kind in KINDS:
        files.numbered(f"{kind}/{{}}.png", range(3))
        files.images(f"{kind}/.ipynb_checkpoints/0-checkpoint.png")
        files.binary(f"{kind}/._0.png")
        files.binary(f"{kind}/Thumbs.db")
        files.text(f"{kind}/desktop.ini", "[.ShellClassInfo]")
    files.binary("@eaDir/cat/0.png")
    files.text("classes.txt", *KINDS)


@dataset(OWN, ".", classes(KINDS, train=2, val=1))
def links_into_a_pool(files: Files) -> None:
    for split, kind, i in [(s, k, i) for k in KINDS for i, s in enumerate(("train", "train", "val"))]:
        files.images(f"all/{kind}_{i}.png")
        os.symlink(f"../../all/{kind}_{i}.png", files.path(f"{split}/{kind}/{i}.png"))


@dataset(OWN, ".", classes(KINDS, train=3))
def empty_class_folders(files: Files) -> None:
    for kind in KINDS:
        files.numbered(f"train/{kind}/{{}}.png", range(3))
        files.path(f"test/{kind}/x")
    files.path("train/bird/x")


@dataset(OWN, ".", THREE)
def json_of_names(files: Files) -> None:
    files.images(*(f"images/{name}" for name, _ in _names()))
    files.json("labels.json", dict(_names()))


@dataset(OWN, ".", THREE)
def json_of_lists(files: Files) -> None:
    files.images(*(f"images/{name}" for name, _ in _names()))
    files.json("labels.json", {kind: [n for n, k in _names() if k == kind] for kind in KINDS})


@dataset(OWN, ".", THREE)
def json_below_a_key(files: Files) -> None:
    files.images(*(f"images/{name}" for name, _ in _names()))
    files.json("data.json", {"version": 1, "samples": [{"file": n, "class": k} for n, k in _names()]})


@dataset("https://www.kaggle.com/datasets/gpiosenka/100-bird-species", ".", SPLITS)
def table_repeats_folders(files: Files) -> None:
    rows = []
    for i, (split, kind) in enumerate(_parts("train", "valid", "test")):
        files.images(f"{split}/{kind}/{i:03}.jpg")
        rows.append(f"{KINDS.index(kind)}.0,{split}/{kind}/{i:03}.jpg,{kind},{split},{kind.upper()}US")
    files.text("birds.csv", "class id,filepaths,labels,data set,scientific name", *rows)
    files.binary("EfficientNetB0-525-(224 X 224)- 98.97.h5")
    files.images("images to test/1.jpg", "images to test/2.jpg")


@dataset("https://www.kaggle.com/datasets/navoneel/brain-mri-images-for-brain-tumor-detection", ".", THREE)
def copy_below_another_name(files: Files) -> None:
    for folder in (".", "brain_dataset"):
        for name, kind in _names():
            file = files.path(f"{folder}/{kind}/{name}")
            Files(file.parent).images(file.name)


@dataset(
    "https://www.kaggle.com/datasets/paultimothymooney/breast-histopathology-images", ".", classes(["0", "1"], none=8)
)
def patients_with_numbered_classes(files: Files) -> None:
    for patient in (10253, 10254, 10255, 8863):
        for kind in (0, 1):
            files.numbered(f"{patient}/{kind}/{patient}_idx5_x{{}}_y1001_class{kind}.png", (1001, 1051))


@dataset(OWN, ".", THREE)
def wrapped_twice(files: Files) -> None:
    for kind in KINDS:
        files.numbered(f"archive (1)/Data Set/{kind}/{{}}.png", range(3))
    files.text("archive (1)/README.md", "Animals")
    files.text("archive (1)/Data Set/labels.txt", *KINDS)


@dataset(OWN, ".", THREE, never=("augmented/*",))
def augmented_copies(files: Files) -> None:
    for kind in KINDS:
        files.numbered(f"original/{kind}/{{}}.png", range(3))
        files.numbered(f"augmented/{kind}/{{}}_flip.png", range(3))


@dataset(OWN, ".", classes(KINDS, train=3), classes(KINDS, none=3), never=("test/*",))
def table_with_paths_without_folder(files: Files) -> None:
    files.images(*(f"train/{name}" for name, _ in _names()), *(f"test/{name}" for name, _ in _names()))
    files.text("train_labels.csv", "id,target", *(f"{n.removesuffix('.jpg')},{k}" for n, k in _names()))


@dataset(OWN, ".", THREE)
def quoted_table_with_index(files: Files) -> None:
    files.images(*(f"images/{name}" for name, _ in _names()))
    rows = (f'{i},"images/{n}","{k}","{k}, seen"' for i, (n, k) in enumerate(_names()))
    files.text("labels.csv", '"","Image Name","Ground Truth","Comment"', *rows)


@dataset(OWN, ".", THREE)
def numbers_without_leading_zeros(files: Files) -> None:
    files.numbered("images/{:05}.png", range(1, 7))
    files.text("labels.csv", "id,label", *(f"{i},{KINDS[(i - 1) // 3]}" for i in range(1, 7)))


@dataset(OWN, ".", THREE)
def archive_beside_its_files(files: Files) -> None:
    for kind in KINDS:
        files.numbered(f"animals/{kind}/{{}}.png", range(3))
    files.pack("animals.zip", "animals")
    for kind in KINDS:
        files.numbered(f"animals/{kind}/{{}}.png", range(3))


@dataset(OWN, ".", THREE)
def class_in_a_list_of_each_class(files: Files) -> None:
    files.images(*(f"images/{name}" for name, _ in _names()))
    for kind in KINDS:
        files.text(f"{kind}.txt", *(n for n, k in _names() if k == kind))


@dataset(OWN, ".", classes(KINDS, train=3), never=("to_predict/*",))
def images_to_predict_beside_train(files: Files) -> None:
    for kind in KINDS:
        files.numbered(f"train/{kind}/{{}}.png", range(3))
    files.numbered("to_predict/{}.png", range(4))
