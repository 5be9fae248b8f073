"""More layouts that people arrange themselves: odd tables, folders beside folders, labels in file names."""

from __future__ import annotations

from dataset_files import Files, classes, dataset

OWN = ""  # arranged for this test
KINDS = ("cat", "dog")
NAMES = [(f"{kind}{i}.jpg", kind) for kind in KINDS for i in range(3)]
PLAIN = [(f"{i}.jpg", KINDS[i // 3]) for i in range(6)]
THREE = classes(KINDS, none=3)
SPLITS = classes(KINDS, train=2, val=1, test=1)
PARTS = [(split, kind) for kind in KINDS for split in ("train", "train", "val", "test")]


def _table(files: Files, *lines: str, name: str = "labels.csv", folder: str = "images") -> None:
    files.images(*(f"{folder}/{image}" for image, _ in PLAIN))
    files.text(name, *lines)


@dataset(OWN, "data", THREE)
def paths_from_above_the_folder(files: Files) -> None:
    files.images(*(f"data/photos/{name}" for name, _ in PLAIN))
    files.text("data/labels.csv", "path,label", *(f"./data/photos/{name},{kind}" for name, kind in PLAIN))


@dataset(OWN, ".", THREE)
def addresses_with_queries(files: Files) -> None:
    _table(files, "url,label", *(f"https://example.org/a/images/{name}?w=600,{kind}" for name, kind in PLAIN))


@dataset(OWN, ".", THREE)
def separator_stated_by_excel(files: Files) -> None:
    _table(files, "sep=;", "Bild;Klasse", *(f"{name};{kind}" for name, kind in PLAIN))


@dataset(OWN, ".", THREE)
def comment_above_the_header(files: Files) -> None:
    _table(files, "# exported 2024-01-01", "image,label", *(f"{name},{kind}" for name, kind in PLAIN))


@dataset(OWN, ".", THREE)
def blanks_after_commas(files: Files) -> None:
    _table(files, "image, label ,", *(f"{name}, {kind} ," for name, kind in PLAIN))


@dataset(OWN, ".", THREE)
def pipes_between_cells(files: Files) -> None:
    _table(files, "image|label|note", *(f"{name}|{kind}|seen, twice" for name, kind in PLAIN))


@dataset(OWN, ".", THREE)
def another_ending_in_the_table(files: Files) -> None:
    _table(files, "image,label", *(f"{name[:-4]}.png,{kind}" for name, kind in PLAIN))


@dataset(
    "https://www.kaggle.com/c/siim-isic-melanoma-classification/data",
    ".",
    classes(["0", "1"], none=3),
    classes(["0", "1"], train=3),
)
def several_descriptions_of_one_label(files: Files) -> None:
    names = [f"ISIC_{2637011 + i}" for i in range(6)]
    files.images(*(f"jpeg/train/{name}.jpg" for name in names), "jpeg/test/ISIC_0052060.jpg")
    header = "image_name,patient_id,sex,age_approx,anatom_site_general_challenge,diagnosis,benign_malignant,target"
    kinds = (("unknown", "benign", 0), ("melanoma", "malignant", 1))
    rows = (f"{n},IP_{i // 2},male,45.0,torso,{','.join(map(str, kinds[i % 2]))}" for i, n in enumerate(names))
    files.text("train.csv", header, *rows)
    files.text("test.csv", header.rsplit(",", 3)[0], "ISIC_0052060,IP_9,male,70.0,torso")
    files.text("sample_submission.csv", "image_name,target", "ISIC_0052060,0")


@dataset(OWN, ".", classes(KINDS, train=2, test=1))
def flag_named_train(files: Files) -> None:
    _table(files, "image,label,train", *(f"{name},{kind},{int(i % 3 < 2)}" for i, (name, kind) in enumerate(PLAIN)))


@dataset(OWN, ".", SPLITS)
def split_column_in_other_words(files: Files) -> None:
    files.images(*(f"images/{i}.jpg" for i in range(8)))
    words = {"train": "Learning set", "val": "Dev", "test": "Hold-out"}
    rows = (f"{i}.jpg,{kind},{words[split]}" for i, (split, kind) in enumerate(PARTS))
    files.text("labels.csv", "image,label,purpose", *rows)


@dataset(OWN, ".", SPLITS)
def tables_inside_split_folders(files: Files) -> None:
    rows: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for i, (split, kind) in enumerate(PARTS):
        files.images(f"{split}/images/{i}.jpg")
        rows[split].append(f"{i}.jpg,{kind}")
    for split, lines in rows.items():
        files.text(f"{split}/labels.csv", "filename,class", *lines)


@dataset("https://huggingface.co/docs/datasets/image_dataset", ".", SPLITS)
def metadata_above_split_folders(files: Files) -> None:
    rows = []
    for i, (split, kind) in enumerate(PARTS):
        files.images(f"{split}/{i}.jpg")
        rows.append(f"{split}/{i}.jpg,{kind}")
    files.text("metadata.csv", "file_name,label", *rows)


@dataset(OWN, ".", classes(KINDS, train=3, test=1))
def labels_of_the_test_images_in_a_table(files: Files) -> None:
    for kind in KINDS:
        files.numbered(f"train/{kind}/{{}}.jpg", range(3))
    files.images("test/7.jpg", "test/8.jpg")
    files.text("test_labels.csv", "filename,label", "7.jpg,cat", "8.jpg,dog")


@dataset(OWN, ".", classes(KINDS, train=3, test=2), classes(KINDS, none=3, test=2))
def test_folder_beside_class_folders(files: Files) -> None:
    for kind in KINDS:
        files.numbered(f"{kind}/{{}}.jpg", range(3))
        files.numbered(f"test/{kind}/{{}}.jpg", range(5, 7))


@dataset(OWN, ".", classes(KINDS, train=4, test=2))
def two_sources_with_splits(files: Files) -> None:
    for source in ("phone", "scanner"):
        for kind in KINDS:
            files.numbered(f"{source}/train/{kind}/{source[0]}{{}}.jpg", range(2))
            files.numbered(f"{source}/test/{kind}/{source[0]}{{}}.jpg", range(7, 8))


@dataset(OWN, ".", THREE)
def label_in_front_of_a_number(files: Files) -> None:
    files.images(*(f"{kind}_{i:03}.jpg" for kind in KINDS for i in range(3)))


@dataset(OWN, ".", THREE)
def label_behind_a_number(files: Files) -> None:
    files.images(*(f"{i:03}_{KINDS[i % 2]}.jpg" for i in range(6)))


@dataset(OWN, ".", THREE)
def label_before_a_number_in_brackets(files: Files) -> None:
    files.images(*(f"{kind} ({i}).jpg" for kind in KINDS for i in range(1, 4)))


@dataset(OWN, ".", SPLITS)
def labels_in_names_inside_split_folders(files: Files) -> None:
    files.images(*(f"{split}/{kind}.{i}.jpg" for i, (split, kind) in enumerate(PARTS)))


@dataset(OWN, ".", THREE, refused=("ann1.csv", "ann2.csv"))
def two_annotators_disagree(files: Files) -> None:
    _table(files, "image,label", *(f"{name},{kind}" for name, kind in PLAIN), name="ann1.csv")
    files.text("ann2.csv", "image,label", *(f"{name},{KINDS[i % 2]}" for i, (name, _) in enumerate(PLAIN)))


@dataset(OWN, ".", classes("2019 2020 2021", none=2))
def years_as_classes(files: Files) -> None:
    for year in (2019, 2020, 2021):
        files.numbered(f"{year}/{{}}.jpg", range(2))


@dataset(OWN, ".", THREE)
def one_text_file_per_image(files: Files) -> None:
    for name, kind in PLAIN:
        files.images(f"images/{name}")
        files.text(f"labels/{name[:-4]}.txt", kind)


@dataset(OWN, ".", THREE)
def fields_inside_fields(files: Files) -> None:
    files.images(*(f"images/{name}" for name, _ in PLAIN))
    rows = [
        {"image": {"path": f"images/{n}", "width": 8}, "label": {"id": KINDS.index(k), "name": k}} for n, k in PLAIN
    ]
    files.json("labels.json", rows)


@dataset(OWN, ".", THREE)
def table_saved_as_text(files: Files) -> None:
    _table(files, "image\tlabel\tquality", *(f"{n}\t{k}\t{i}" for i, (n, k) in enumerate(PLAIN)), name="labels.txt")


@dataset(OWN, ".", THREE, classes(["0_cat", "1_dog"], none=3))
def number_in_front_of_the_label(files: Files) -> None:
    files.images(*(f"{KINDS.index(kind)}_{kind}/{name}" for name, kind in PLAIN))
    files.text("classes.txt", *KINDS)


@dataset(OWN, ".", THREE)
def columns_of_a_hierarchy(files: Files) -> None:
    rows = (f"{name},animal,{kind},{kind.upper()}-{i % 2}" for i, (name, kind) in enumerate(PLAIN))
    _table(files, "image,level1,level2,level3", *rows)


@dataset(OWN, ".", classes("bus car train", none=3))
def class_named_train(files: Files) -> None:
    for kind in ("bus", "car", "train"):
        files.numbered(f"{kind}/{{}}.jpg", range(3))


@dataset(OWN, ".", classes("bus car train", train=3, test=1))
def class_named_train_inside_splits(files: Files) -> None:
    for kind in ("bus", "car", "train"):
        files.numbered(f"train/{kind}/{{}}.jpg", range(3))
        files.numbered(f"test/{kind}/{{}}.jpg", range(7, 8))


@dataset(OWN, ".", classes("bus car train", none=3))
def class_named_train_in_a_table(files: Files) -> None:
    files.numbered("images/{}.jpg", range(9))
    files.text("labels.csv", "image,label", *(f"{i}.jpg,{('bus', 'car', 'train')[i % 3]}" for i in range(9)))


@dataset(OWN, ".", classes("valid invalid unclear", none=3))
def classes_named_valid_and_invalid(files: Files) -> None:
    for kind in ("valid", "invalid", "unclear"):
        files.numbered(f"{kind}/{{}}.jpg", range(3))


@dataset(OWN, ".", classes(KINDS, none=3), never=("test/*",))
def flat_test_folder_beside_class_folders(files: Files) -> None:
    for kind in KINDS:
        files.numbered(f"{kind}/{{}}.jpg", range(3))
    files.numbered("test/{}.jpg", range(5))


@dataset(OWN, ".", classes(KINDS, train=3, test=1))
def split_folder_twice_in_another_case(files: Files) -> None:
    for folder in ("Train", "train"):
        for kind in KINDS:
            for i in range(3):
                file = files.path(f"{folder}/{kind}/{kind}_{i}.jpg")
                Files(file.parent).images(file.name)
    for kind in KINDS:
        files.images(f"Test/{kind}/{kind}_9.jpg")


@dataset(OWN, ".", classes(("tench, Tinca tinca", "goldfish, Carassius auratus"), none=3))
def commas_in_class_names(files: Files) -> None:
    names = ("tench, Tinca tinca", "goldfish, Carassius auratus")
    files.numbered("images/{}.jpg", range(6))
    files.text("labels.csv", "image,label", *(f'{i}.jpg,"{names[i % 2]}"' for i in range(6)))


@dataset(OWN, ".", THREE)
def captions_beside_class_folders(files: Files) -> None:
    for kind in KINDS:
        for i in range(3):
            files.images(f"{kind}/{kind}{i}.jpg")
            files.text(f"{kind}/{kind}{i}.txt", f"a photo of a {kind} on a {('mat', 'bed', 'sofa')[i]}")


@dataset(OWN, ".", THREE)
def notes_beside_class_folders(files: Files) -> None:
    for kind in KINDS:
        files.numbered(f"{kind}/{{}}.jpg", range(3))
    files.text("notes.csv", "date,who,remark", "2024-01-01,Ana,started", "2024-01-02,Ana,done")
    files.text("requirements.txt", "numpy", "pillow")
    files.json("config.json", {"size": 224, "classes": list(KINDS)})
    files.text("train.py", "print('hello')")
    files.text("results/history.csv", "epoch,loss", "1,0.5", "2,0.4")


@dataset(OWN, ".", THREE)
def earlier_predictions_beside_class_folders(files: Files) -> None:
    for kind in KINDS:
        files.numbered(f"{kind}/{{}}.jpg", range(3))
    wrong = (f"{kind}/{i}.jpg,dog,0.71" for kind in KINDS for i in range(3))
    files.text("predictions.csv", "image,label,probability", *wrong)


@dataset(OWN, ".", classes(KINDS, train=2, test=1))
def test_results_beside_split_folders(files: Files) -> None:
    for kind in KINDS:
        files.numbered(f"train/{kind}/{{}}.jpg", range(2))
        files.numbered(f"test/{kind}/{{}}.jpg", range(7, 8))
    files.text("test_results.csv", "filename,predicted", "test/cat/7.jpg,dog", "test/dog/7.jpg,dog")


@dataset(OWN, ".", classes(("Golden Retriever", "Gölden Retriever"), none=3), classes(("Golden Retriever",), none=6))
def class_names_that_differ_by_accents(files: Files) -> None:
    for kind in ("Golden Retriever", "Gölden Retriever"):
        files.numbered(f"{kind}/{{}}.jpg", range(3))


@dataset(OWN, ".", classes(KINDS, none=4))
def rows_of_images_that_are_not_there(files: Files) -> None:
    names = [(f"{i}.jpg", KINDS[i // 5]) for i in range(10)]
    files.images(*(f"images/{name}" for name, _ in names if name not in ("4.jpg", "9.jpg")))
    files.text("labels.csv", "image,label", *(f"{name},{kind}" for name, kind in names))


@dataset(OWN, ".", classes(KINDS, none=3))
def years_and_views_below_classes(files: Files) -> None:
    for kind in KINDS:
        for i, year in enumerate((2019, 2020, 2021)):
            files.images(f"{kind}/{year}/view_{i}/{kind}_{year}.jpg")


@dataset(OWN, ".", classes(KINDS, train=3, test=3), classes(KINDS, train=3))
def split_folder_inside_another_split(files: Files) -> None:
    for folder in ("train", "test1/train"):
        files.images(*(f"{folder}/{kind}.{i}.jpg" for kind in KINDS for i in range(3)))
