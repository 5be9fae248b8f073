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


@dataset(f"{KAGGLE}/c/dogs-vs-cats/data", "dogs-vs-cats", *PETS)
def dogs_vs_cats(files: Files) -> None:
    _dogs_vs_cats(files)


@dataset(f"{KAGGLE}/c/dogs-vs-cats/data", "dogs-vs-cats.zip", *PETS)
def dogs_vs_cats_zip(files: Files) -> None:
    _dogs_vs_cats(files)
    files.pack("dogs-vs-cats/train.zip", "dogs-vs-cats/train")
    files.pack("dogs-vs-cats/test1.zip", "dogs-vs-cats/test1")
    files.pack("dogs-vs-cats.zip", "dogs-vs-cats", keep_folder=False)


@dataset(f"{KAGGLE}/datasets/puneet6060/intel-image-classification", ".", classes(LAND, train=3, test=2))
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
