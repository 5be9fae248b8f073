"""Layouts of published datasets of competitions and their repackaged copies."""

from __future__ import annotations

from dataset_files import Files, classes, dataset

KAGGLE = "https://www.kaggle.com"
PETS = classes("cat dog", none=4), classes("cat dog", train=4)
LAND = ("buildings", "forest", "sea")


def _dogs_vs_cats(files: Files) -> None:
    files.images(*(f"dogs-vs-cats/train/{kind}.{i}.jpg" for kind in ("cat", "dog") for i in range(4)))
    files.numbered("dogs-vs-cats/test1/{}.jpg", range(1, 6))
    files.text("dogs-vs-cats/sampleSubmission.csv", "id,label", *(f"{i},0" for i in range(1, 6)))


@dataset(f"{KAGGLE}/c/dogs-vs-cats/data", "dogs-vs-cats", *PETS, never=("test1/*",))
def dogs_vs_cats(files: Files) -> None:
    _dogs_vs_cats(files)


@dataset(f"{KAGGLE}/c/dogs-vs-cats/data", "dogs-vs-cats.zip", *PETS)
def dogs_vs_cats_zip(files: Files) -> None:
    _dogs_vs_cats(files)
    files.pack("dogs-vs-cats/train.zip", "dogs-vs-cats/train")
    files.pack("dogs-vs-cats/test1.zip", "dogs-vs-cats/test1")
    files.pack("dogs-vs-cats.zip", "dogs-vs-cats", keep_folder=False)


@dataset(
    f"{KAGGLE}/datasets/puneet6060/intel-image-classification",
    ".",
    classes(LAND, train=3, test=2),
    never=("seg_pred/*",),
)
def intel_scenes(files: Files) -> None:
    for name in LAND:
        files.numbered(f"seg_train/seg_train/{name}/{{}}.jpg", range(3))
        files.numbered(f"seg_test/seg_test/{name}/{{}}.jpg", range(20057, 20059))
    files.numbered("seg_pred/seg_pred/{}.jpg", range(5))


LETTERS = ("A", "B", "del", "nothing", "space")


@dataset(
    f"{KAGGLE}/datasets/grassknoted/asl-alphabet",
    ".",
    classes(LETTERS, train=3),
    {name: {"train": 3, "test": 1} if name != "del" else {"train": 3} for name in LETTERS},
)
def asl_alphabet(files: Files) -> None:
    for name in LETTERS:
        files.numbered(f"asl_alphabet_train/asl_alphabet_train/{name}/{name}{{}}.jpg", range(1, 4))
        if name != "del":
            files.images(f"asl_alphabet_test/asl_alphabet_test/{name}_test.jpg")


DISEASES = {
    "0": "Cassava Bacterial Blight (CBB)",
    "1": "Cassava Brown Streak Disease (CBSD)",
    "2": "Cassava Green Mottle (CGM)",
    "3": "Cassava Mosaic Disease (CMD)",
    "4": "Healthy",
}


@dataset(
    f"{KAGGLE}/c/cassava-leaf-disease-classification/data",
    "cassava",
    classes(DISEASES.values(), none=2),
    classes(DISEASES.values(), train=2),
    never=("test_images/*",),
)
def cassava(files: Files) -> None:
    names = [f"{1000015157 + 41 * i}.jpg" for i in range(10)]
    files.images(*(f"cassava/train_images/{name}" for name in names))
    files.images("cassava/test_images/2216849948.jpg")
    files.text("cassava/train.csv", "image_id,label", *(f"{name},{i % 5}" for i, name in enumerate(names)))
    files.text("cassava/sample_submission.csv", "image_id,label", "2216849948.jpg,4")
    files.json("cassava/label_num_to_disease_map.json", DISEASES)
    files.binary("cassava/train_tfrecords/ld_train00-1338.tfrec")
    files.binary("cassava/test_tfrecords/ld_test00-1.tfrec")


BREEDS = ("boston_bull", "dingo", "pekinese")


@dataset(
    f"{KAGGLE}/c/dog-breed-identification/data",
    "dog-breed",
    classes(BREEDS, none=3),
    classes(BREEDS, train=3),
    never=("test/*",),
)
def dog_breed(files: Files) -> None:
    ids = [f"{0x000BEC180EB18C7604DCECC8FE0DBA07 + 104729 * i:032x}" for i in range(12)]
    files.images(*(f"dog-breed/train/{name}.jpg" for name in ids[:9]))
    files.images(*(f"dog-breed/test/{name}.jpg" for name in ids[9:]))
    files.text("dog-breed/labels.csv", "id,breed", *(f"{name},{BREEDS[i % 3]}" for i, name in enumerate(ids[:9])))
    header = ",".join(("id", *BREEDS))
    files.text("dog-breed/sample_submission.csv", header, *(f"{name},0.3,0.3,0.4" for name in ids[9:]))


SEEDLINGS = ("Black-grass", "Common Chickweed", "Sugar beet")


@dataset(
    f"{KAGGLE}/c/plant-seedlings-classification/data",
    ".",
    classes(SEEDLINGS, train=3),
    classes(SEEDLINGS, none=3),
    never=("test/*",),
)
def plant_seedlings(files: Files) -> None:
    for i, name in enumerate(SEEDLINGS):
        files.images(*(f"train/{name}/{0x0050F38B3 + 7919 * (3 * i + k):09x}.png" for k in range(3)))
    files.images("test/0021e90e4.png", "test/003d61042.png")
    files.text("sample_submission.csv", "file,species", "0021e90e4.png,Sugar beets", "003d61042.png,Sugar beets")


@dataset(
    f"{KAGGLE}/c/state-farm-distracted-driver-detection/data",
    ".",
    classes("c0 c1 c9", train=4),
    classes("c0 c1 c9", none=4),
    never=("imgs/test/*",),
)
def state_farm(files: Files) -> None:
    rows = []
    for k, name in enumerate(("c0", "c1", "c9")):
        for i in range(4):
            files.images(f"imgs/train/{name}/img_{44733 + 10 * k + i}.jpg")
            rows.append(f"p{(2, 12, 14, 15)[i]:03},{name},img_{44733 + 10 * k + i}.jpg")
    files.numbered("imgs/test/img_{}.jpg", range(1, 5))
    files.text("driver_imgs_list.csv", "subject,classname,img", *rows)
    header = ",".join(("img", *(f"c{i}" for i in range(10))))
    files.text("sample_submission.csv", header, *(f"img_{i}.jpg{',0.1' * 10}" for i in range(1, 5)))
