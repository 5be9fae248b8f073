"""Layouts of published datasets of objects, scenes, textures, digits and animals."""

from __future__ import annotations

import numpy as np
from dataset_files import Files, classes, dataset

TORCHVISION = "https://github.com/pytorch/vision/blob/main/torchvision/datasets"
TENSORFLOW = "https://github.com/tensorflow/datasets/blob/master/tensorflow_datasets"
WNIDS = ("n01440764", "n02102040", "n02979186")
WORDS = ("tench, Tinca tinca", "English springer, English springer spaniel", "cassette player")


def _imagenet_devkit(files: Files, val: list[int]) -> None:
    folder = "ILSVRC2012_devkit_t12"
    synsets = [
        {"ILSVRC2012_ID": i, "WNID": w, "words": words, "gloss": "a thing", "num_children": 0}
        for i, (w, words) in enumerate(zip(WNIDS, WORDS, strict=True), start=1)
    ]
    files.matlab(f"{folder}/data/meta.mat", synsets=synsets)
    files.text(f"{folder}/data/ILSVRC2012_validation_ground_truth.txt", *map(str, val))
    files.text(f"{folder}/readme.txt", "Introduction")
    files.text(f"{folder}/COPYING", "GPL")
    files.text(f"{folder}/evaluation/demo_eval.m", "fprintf('demo')")


@dataset(f"{TORCHVISION}/imagenet.py", ".", classes(WNIDS, train=3, val=2))
def imagenet(files: Files) -> None:
    for i, wnid in enumerate(WNIDS):
        files.numbered(f"train/{wnid}/{wnid}_{{}}.JPEG", range(10, 13))
        files.numbered(f"val/{wnid}/ILSVRC2012_val_{{:08}}.JPEG", (i + 1, i + 4))
    _imagenet_devkit(files, [1, 2, 3, 1, 2, 3])
    files.binary("meta.bin")


@dataset(f"{TORCHVISION}/imagenet.py", ".", classes(WNIDS, train=3), classes(WNIDS, train=3, val=2))
def imagenet_unsorted_val(files: Files) -> None:
    for wnid in WNIDS:
        files.numbered(f"train/{wnid}/{wnid}_{{}}.JPEG", range(10, 13))
    files.numbered("val/ILSVRC2012_val_{:08}.JPEG", range(1, 7))
    _imagenet_devkit(files, [1, 2, 3, 1, 2, 3])


@dataset(
    "https://www.kaggle.com/c/imagenet-object-localization-challenge/data",
    ".",
    classes(WNIDS, train=3),
    classes(WNIDS, train=3, val=2),
    options=("--task", "classify"),
    never=("*/test/*",),
)
def imagenet_kaggle(files: Files) -> None:
    data, lists = "ILSVRC/Data/CLS-LOC", "ILSVRC/ImageSets/CLS-LOC"
    train = [f"{w}/{w}_{i}" for w in WNIDS for i in range(10, 13)]
    val = [f"ILSVRC2012_val_{i:08}" for i in range(1, 7)]
    files.images(*(f"{data}/train/{name}.JPEG" for name in train))
    files.images(*(f"{data}/val/{name}.JPEG" for name in val))
    files.numbered(f"{data}/test/ILSVRC2012_test_{{:08}}.JPEG", range(1, 5))
    files.text(f"{lists}/train_cls.txt", *(f"{name} {i}" for i, name in enumerate(train, start=1)))
    files.text(f"{lists}/val.txt", *(f"{name} {i}" for i, name in enumerate(val, start=1)))
    files.text(f"{lists}/test.txt", *(f"ILSVRC2012_test_{i:08} {i}" for i in range(1, 5)))
    for i, name in enumerate(val):
        files.text(f"ILSVRC/Annotations/CLS-LOC/val/{name}.xml", _voc(name, WNIDS[i % 3]))
    files.text("LOC_synset_mapping.txt", *(f"{w} {words}" for w, words in zip(WNIDS, WORDS, strict=True)))
    files.text(
        "LOC_train_solution.csv", "ImageId,PredictionString", *(f"{n.split('/')[1]},{n[:9]} 1 1 7 7" for n in train)
    )
    files.text(
        "LOC_val_solution.csv", "ImageId,PredictionString", *(f"{n},{WNIDS[i % 3]} 1 1 7 7" for i, n in enumerate(val))
    )
    files.text(
        "LOC_sample_submission.csv",
        "ImageId,PredictionString",
        *(f"ILSVRC2012_test_{i:08},{WNIDS[0]} 0 0 10 10" for i in range(1, 5)),
    )


def _voc(name: str, label: str) -> str:
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>7</xmax><ymax>7</ymax></bndbox>"
    return (
        f"<annotation><filename>{name}</filename><size><width>8</width><height>8</height><depth>3</depth></size>"
        f"<object><name>{label}</name>{box}</object></annotation>"
    )


@dataset("https://github.com/fastai/imagenette", "imagenette2", classes(WNIDS, train=4, val=2))
def imagenette(files: Files) -> None:
    rows = []
    for split, numbers in (("train", (1, 3, 4, 8)), ("val", (0, 2))):
        for k, wnid in enumerate(WNIDS):
            for n in numbers:
                name = f"{split}/{wnid}/{wnid}_{n}.JPEG"
                files.images(f"imagenette2/{name}")
                noisy = WNIDS[(k + (n == 3)) % 3]
                rows.append(f"{name},{wnid},{wnid},{wnid},{wnid},{noisy},{split == 'val'}")
    noise = ",".join(f"noisy_labels_{n}" for n in (0, 1, 5, 25, 50))
    files.text("imagenette2/noisy_imagenette.csv", f"path,{noise},is_valid", *rows)


@dataset(
    "https://github.com/fastai/fastai/blob/main/fastai/data/external.py",
    "cifar10",
    classes("airplane cat ship", train=3, test=2),
)
def cifar10_png(files: Files) -> None:
    for name in ("airplane", "cat", "ship"):
        files.numbered(f"cifar10/train/{name}/{{}}_{name}.png", range(10008, 10011))
        files.numbered(f"cifar10/test/{name}/{{}}_{name}.png", range(20, 22))
    files.text("cifar10/labels.txt", "airplane", "cat", "ship")


@dataset(
    "https://www.kaggle.com/c/cifar-10/data",
    "cifar-10",
    classes("frog truck", none=3),
    classes("frog truck", train=3),
    never=("test/*",),
)
def cifar10_kaggle(files: Files) -> None:
    files.numbered("cifar-10/train/{}.png", range(1, 7))
    files.numbered("cifar-10/test/{}.png", range(1, 9))
    files.text("cifar-10/trainLabels.csv", "id,label", *(f"{i},{('frog', 'truck')[i % 2]}" for i in range(1, 7)))
    files.text("cifar-10/sampleSubmission.csv", "id,label", *(f"{i},cat" for i in range(1, 9)))


@dataset("https://github.com/myleott/mnist_png", "mnist_png", classes([str(i) for i in range(10)], train=2, test=1))
def mnist_png(files: Files) -> None:
    for digit in range(10):
        files.numbered(f"mnist_png/training/{digit}/{{}}.png", (digit + 1, digit + 21))
        files.numbered(f"mnist_png/testing/{digit}/{{}}.png", (digit + 3,))


@dataset(
    "https://github.com/keras-team/keras/blob/master/keras/src/datasets/mnist.py",
    "mnist.npz",
    classes([str(i) for i in range(10)], train=2, test=1),
)
def mnist_npz(files: Files) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 28, 28), dtype=np.uint8)
    digits = np.arange(30, dtype=np.uint8) % 10
    np.savez(files.path("mnist.npz"), x_train=pixels[:20], y_train=digits[:20], x_test=pixels[20:], y_test=digits[20:])


CLOTHES = classes("0 1 9", train=2, test=1)


def _pixel_rows(count: int, num_pixels: int, labels: tuple[int, ...]) -> list[str]:
    pixels = np.random.default_rng(num_pixels).integers(0, 256, (count, num_pixels))
    return [",".join(map(str, [labels[i % len(labels)], *values])) for i, values in enumerate(pixels)]


def _fashion_tables(files: Files) -> None:
    header = ",".join(["label", *(f"pixel{i}" for i in range(1, 785))])
    rows = _pixel_rows(9, 784, (0, 1, 9))
    files.text("fashion/fashion-mnist_train.csv", header, *rows[:6])
    files.text("fashion/fashion-mnist_test.csv", header, *rows[6:])


@dataset("https://www.kaggle.com/datasets/zalando-research/fashionmnist", "fashion", CLOTHES)
def fashion_mnist_csv(files: Files) -> None:
    _fashion_tables(files)


@dataset("https://www.kaggle.com/datasets/zalando-research/fashionmnist", "fashion", CLOTHES)
def fashion_mnist_idx(files: Files) -> None:
    _fashion_tables(files)
    for split, count in (("train", 6), ("t10k", 3)):
        pixels = np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)
        head = b"\x00\x00\x08\x03" + np.array([count, 28, 28], dtype=">u4").tobytes()
        files.binary(f"fashion/{split}-images-idx3-ubyte", head + pixels.tobytes())
        labels = np.array([(0, 1, 9)[i % 3] for i in range(count)], dtype=np.uint8)
        head = b"\x00\x00\x08\x01" + np.array([count], dtype=">u4").tobytes()
        files.binary(f"fashion/{split}-labels-idx1-ubyte", head + labels.tobytes())


@dataset("https://www.kaggle.com/c/digit-recognizer/data", "digits", classes("0 1 9", train=2))
def digit_recognizer(files: Files) -> None:
    header = ",".join(["label", *(f"pixel{i}" for i in range(784))])
    rows = _pixel_rows(9, 784, (0, 1, 9))
    files.text("digits/train.csv", header, *rows[:6])
    files.text("digits/test.csv", header.partition(",")[2], *(row.partition(",")[2] for row in rows[6:]))
    files.text("digits/sample_submission.csv", "ImageId,Label", "1,0", "2,0", "3,0")


@dataset("https://www.kaggle.com/datasets/deadskull7/fer2013", "fer2013.csv", classes("0 3", train=2, test=2))
def fer2013(files: Files) -> None:
    usages = ("Training", "Training", "PublicTest", "PrivateTest")
    rows = (row.replace(",", " ").split(" ", 1) for row in _pixel_rows(8, 2304, (0, 3)))
    files.text("fer2013.csv", "emotion,pixels,Usage", *(f"{k},{p},{usages[i // 2]}" for i, (k, p) in enumerate(rows)))


@dataset(f"{TORCHVISION}/flowers102.py", "flowers-102", classes("1 2 3", train=1, val=1, test=2))
def flowers102(files: Files) -> None:
    files.numbered("flowers-102/jpg/image_{:05}.jpg", range(1, 13))
    files.matlab("flowers-102/imagelabels.mat", labels=np.repeat([3, 1, 2], 4).astype(np.uint8))
    ids = np.arange(1, 13, dtype=np.uint16)
    files.matlab("flowers-102/setid.mat", trnid=ids[2::4], valid=ids[1::4], tstid=np.sort(np.r_[ids[::4], ids[3::4]]))


@dataset(
    "https://www.kaggle.com/datasets/nunenuh/pytorch-challange-flower-dataset",
    ".",
    classes(["1", "10", "21", "102"], train=2, val=1),
    classes(["pink primrose", "globe thistle", "fire lily", "blackberry lily"], train=2, val=1),
    never=("*/test/*",),
)
def flowers102_kaggle(files: Files) -> None:
    for i, number in enumerate((1, 10, 21, 102)):
        files.numbered(f"dataset/train/{number}/image_{{:05}}.jpg", (6734 + i, 6744 + i))
        files.numbered(f"dataset/valid/{number}/image_{{:05}}.jpg", (6755 + i,))
    files.numbered("dataset/test/image_{:05}.jpg", range(1, 4))
    names = {"21": "fire lily", "10": "globe thistle", "1": "pink primrose", "102": "blackberry lily"}
    files.json("cat_to_name.json", names)
    files.text("sample_submission.csv", "file_name,id", *(f"image_{i:05}.jpg,1" for i in range(1, 4)))
    files.text("README.md", "Flowers")


PETS = ("Abyssinian", "american_bulldog", "Bengal")


@dataset(
    f"{TORCHVISION}/oxford_iiit_pet.py",
    "oxford-iiit-pet",
    classes(PETS, train=3, test=2),
    options=("--task", "classify"),
    never=("annotations/*",),
)
def oxford_pets(files: Files) -> None:
    species = {"Abyssinian": "1 1 1", "american_bulldog": "2 2 1", "Bengal": "3 1 2"}
    lines = {}
    for name in PETS:
        for i in (1, 10, 100, 101, 2):
            files.images(f"oxford-iiit-pet/images/{name}_{i}.jpg")
            files.images(f"oxford-iiit-pet/annotations/trimaps/{name}_{i}.png", num_channels=1)
            files.binary(f"oxford-iiit-pet/annotations/trimaps/._{name}_{i}.png")
            lines[f"{name}_{i}"] = f"{name}_{i} {species[name]}"
        files.binary(f"oxford-iiit-pet/images/{name}_103.mat")
        files.text(f"oxford-iiit-pet/annotations/xmls/{name}_1.xml", _voc(f"{name}_1.jpg", "cat"))
    notes = ["#Image CLASS-ID SPECIES BREED ID", "#ID: 1:37 Class ids", "#SPECIES: 1:Cat 2:Dog"]
    notes += ["#BREED ID: 1-25:Cat 1:12:Dog", "#All images with 1st letter as captial are cat images"]
    files.text("oxford-iiit-pet/annotations/list.txt", *notes, *lines.values())
    trainval = [line for name, line in lines.items() if name.split("_")[-1] in ("1", "10", "2")]
    files.text("oxford-iiit-pet/annotations/trainval.txt", *trainval)
    files.text("oxford-iiit-pet/annotations/test.txt", *(v for v in lines.values() if v not in trainval))
    files.text("oxford-iiit-pet/annotations/README", "Pets")


CARS = ("AM General Hummer SUV 2000", "Acura RL Sedan 2012", "BMW M3 Coupe 2012")


@dataset(f"{TORCHVISION}/stanford_cars.py", "stanford_cars", classes(CARS, train=3, test=2))
def stanford_cars(files: Files) -> None:
    box = {"bbox_x1": 1, "bbox_y1": 1, "bbox_x2": 6, "bbox_y2": 6}
    train = [{**box, "class": i % 3 + 1, "fname": f"{i + 1:05}.jpg"} for i in range(9)]
    test = [{**box, "class": i % 3 + 1, "fname": f"{i + 1:05}.jpg"} for i in range(6)]
    files.images(*(f"stanford_cars/cars_train/{row['fname']}" for row in train))
    files.images(*(f"stanford_cars/cars_test/{row['fname']}" for row in test))
    files.matlab("stanford_cars/devkit/cars_train_annos.mat", annotations=train)
    unlabeled = [{k: v for k, v in row.items() if k != "class"} for row in test]
    files.matlab("stanford_cars/devkit/cars_test_annos.mat", annotations=unlabeled)
    files.matlab("stanford_cars/devkit/cars_meta.mat", class_names=list(CARS))
    files.matlab("stanford_cars/cars_test_annos_withlabels.mat", annotations=test)
    files.text("stanford_cars/devkit/README.txt", "Cars")
    files.text("stanford_cars/devkit/train_perfect_preds.txt", *(str(row["class"]) for row in train))
    files.text("stanford_cars/devkit/eval_train.m", "function eval_train")


BIRDS = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "200.Common_Yellowthroat")


@dataset("https://www.vision.caltech.edu/datasets/cub_200_2011/", "CUB_200_2011", classes(BIRDS, train=3, test=1))
def cub200(files: Files) -> None:
    names = [f"{bird}/{bird[4:]}_{i:04}_{7960 + i}.jpg" for bird in BIRDS for i in range(4)]
    files.images(*(f"CUB_200_2011/images/{name}" for name in names))
    files.text("CUB_200_2011/images.txt", *(f"{i} {name}" for i, name in enumerate(names, start=1)))
    files.text("CUB_200_2011/classes.txt", *(f"{i} {bird}" for i, bird in enumerate(BIRDS, start=1)))
    files.text("CUB_200_2011/image_class_labels.txt", *(f"{i} {(i - 1) // 4 + 1}" for i in range(1, 13)))
    files.text("CUB_200_2011/train_test_split.txt", *(f"{i} {int(i % 4 != 0)}" for i in range(1, 13)))
    files.text("CUB_200_2011/bounding_boxes.txt", *(f"{i} 1.0 1.0 6.0 6.0" for i in range(1, 13)))
    files.text("CUB_200_2011/parts/part_locs.txt", *(f"{i} 1 3.0 4.0 1" for i in range(1, 13)))
    files.text("CUB_200_2011/parts/parts.txt", "1 back", "2 beak")
    files.text("CUB_200_2011/attributes/image_attribute_labels.txt", *(f"{i} 1 0 3 2.7" for i in range(1, 13)))
    files.text("CUB_200_2011/README", "Birds")
    files.text("attributes.txt", "1 has_bill_shape::curved_(up_or_down)")


@dataset(f"{TORCHVISION}/food101.py", "food-101", classes("apple_pie baby_back_ribs waffles", train=3, test=1))
def food101(files: Files) -> None:
    foods = ("apple_pie", "baby_back_ribs", "waffles")
    train = {food: [f"{food}/{n}" for n in (1005649, 1014775, 134)] for food in foods}
    test = {food: [f"{food}/{n}" for n in (1011328,)] for food in foods}
    for split, lists in (("train", train), ("test", test)):
        files.images(*(f"food-101/images/{name}.jpg" for names in lists.values() for name in names))
        files.text(f"food-101/meta/{split}.txt", *(name for names in lists.values() for name in names))
        files.json(f"food-101/meta/{split}.json", lists)
    files.text("food-101/meta/classes.txt", *foods)
    files.text("food-101/meta/labels.txt", "Apple pie", "Baby back ribs", "Waffles")
    files.text("food-101/README.txt", "Food")
    files.text("food-101/license_agreement.txt", "License")


@dataset(f"{TORCHVISION}/caltech.py", "caltech101", classes("BACKGROUND_Google accordion airplanes", none=3))
def caltech101(files: Files) -> None:
    for name in ("BACKGROUND_Google", "accordion", "airplanes"):
        files.numbered(f"caltech101/101_ObjectCategories/{name}/image_{{:04}}.jpg", range(1, 4))
    files.binary("caltech101/101_ObjectCategories/BACKGROUND_Google/tmp")
    for folder, name in (("accordion", "accordion"), ("Airplanes_Side_2", "airplanes")):
        for i in range(1, 4):
            files.matlab(f"caltech101/Annotations/{folder}/annotation_{i:04}.mat", box_coord=[1, 6, 1, 6])
        assert name
    files.text("caltech101/show_annotation.m", "function show_annotation")


@dataset(f"{TORCHVISION}/dtd.py", "dtd", classes("banded blotchy braided", train=2, val=1, test=1))
def dtd(files: Files) -> None:
    names = [f"{kind}/{kind}_{i:04}.jpg" for kind in ("banded", "blotchy", "braided") for i in (2, 4, 5, 6)]
    files.images(*(f"dtd/images/{name}" for name in names))
    for part in range(1, 11):
        chosen = {split: [] for split in ("train", "val", "test")}
        for i, name in enumerate(names):
            chosen[("train", "train", "val", "test")[(i + part - 1) % 4]].append(name)
        for split, listed in chosen.items():
            files.text(f"dtd/labels/{split}{part}.txt", *listed)
    joint = (f"{name} {name.split('/')[0]} {'banded ' * (i % 5 == 4)}" for i, name in enumerate(names))
    files.text("dtd/labels/labels_joint_anno.txt", *joint)
    files.matlab("dtd/imdb/imdb.mat", sets=["train", "val", "test"])


LAND = ("AnnualCrop", "Forest", "SeaLake")


@dataset(f"{TORCHVISION}/eurosat.py", "eurosat", classes(LAND, none=3))
def eurosat(files: Files) -> None:
    for name in LAND:
        files.numbered(f"eurosat/2750/{name}/{name}_{{}}.jpg", range(1, 4))


@dataset(
    "https://www.kaggle.com/datasets/apollo2506/eurosat-dataset",
    ".",
    classes(LAND, train=2, val=1, test=1),
    never=("EuroSATallBands/*",),
)
def eurosat_kaggle(files: Files) -> None:
    for folder, extension in (("EuroSAT", "jpg"), ("EuroSATallBands", "tif")):
        rows = {"train": [], "validation": [], "test": []}
        for k, name in enumerate(LAND):
            for i, split in enumerate(("train", "train", "validation", "test"), start=1):
                files.images(f"{folder}/{name}/{name}_{i}.{extension}")
                rows[split].append(f"{len(rows[split])},{name}/{name}_{i}.{extension},{k},{name}")
        for split, lines in rows.items():
            files.text(f"{folder}/{split}.csv", ",Filename,Label,ClassName", *lines)
        files.json(f"{folder}/label_map.json", {name: k for k, name in enumerate(LAND)})


@dataset(
    "https://github.com/microsoft/torchgeo/blob/main/torchgeo/datasets/resisc45.py",
    "resisc45",
    classes("airplane bridge wetland", train=3, val=1, test=1),
)
def resisc45(files: Files) -> None:
    lists = {"train": [], "val": [], "test": []}
    for name in ("airplane", "bridge", "wetland"):
        files.numbered(f"resisc45/NWPU-RESISC45/{name}/{name}_{{:03}}.jpg", range(1, 6))
        for i, split in enumerate(("train", "test", "train", "val", "train"), start=1):
            lists[split].append(f"{name}_{i:03}.jpg")
    for split, names in lists.items():
        files.text(f"resisc45/resisc45-{split}.txt", *names)


SIGNS = ("00000", "00001", "00002")


@dataset(
    f"{TORCHVISION}/gtsrb.py",
    "gtsrb",
    classes(SIGNS, train=3, test=1),
    classes("0 1 2", train=3, test=1),
    classes(SIGNS, train=3),
)
def gtsrb(files: Files) -> None:
    header = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"
    for k, sign in enumerate(SIGNS):
        files.numbered(f"gtsrb/GTSRB/Training/{sign}/00000_{{:05}}.ppm", range(3))
        rows = [f"00000_{i:05}.ppm;8;8;1;1;6;6;{k}" for i in range(3)]
        files.text(f"gtsrb/GTSRB/Training/{sign}/GT-{sign}.csv", header, *rows)
    files.numbered("gtsrb/GTSRB/Final_Test/Images/{:05}.ppm", range(3))
    files.text(
        "gtsrb/GTSRB/Final_Test/Images/GT-final_test.test.csv",
        header.removesuffix(";ClassId"),
        *(f"{i:05}.ppm;8;8;1;1;6;6" for i in range(3)),
    )
    files.text("gtsrb/GT-final_test.csv", header, *(f"{i:05}.ppm;8;8;1;1;6;6;{i}" for i in range(3)))
    files.text("gtsrb/GTSRB/Readme-Images.txt", "Signs")


@dataset(
    "https://www.kaggle.com/datasets/meowmeowmeowmeowmeow/gtsrb-german-traffic-sign",
    ".",
    classes("0 1 10", train=3, test=2),
    never=("Meta/*",),
)
def gtsrb_kaggle(files: Files) -> None:
    header = "Width,Height,Roi.X1,Roi.Y1,Roi.X2,Roi.Y2,ClassId,Path"
    train = [f"8,8,1,1,6,6,{k},Train/{k}/{k:05}_00000_{i:05}.png" for k in (0, 1, 10) for i in range(3)]
    test = [f"8,8,1,1,6,6,{(0, 1, 10)[i % 3]},Test/{i:05}.png" for i in range(6)]
    files.images(*(row.rsplit(",", 1)[1] for row in (*train, *test)))
    files.images(*(f"Meta/{k}.png" for k in (0, 1, 10)))
    files.text("Train.csv", header, *train)
    files.text("Test.csv", header, *test)
    files.text(
        "Test/GT-final_test.csv",
        "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2",
        *(f"{i:05}.ppm;8;8;1;1;6;6" for i in range(6)),
    )
    files.text(
        "Meta.csv", "Path,ClassId,ShapeId,ColorId,SignId", *(f"Meta/{k}.png,{k},{k % 2},0,3.29" for k in (0, 1, 10))
    )


@dataset(
    f"{TORCHVISION}/svhn.py", "svhn", classes("1 2 3 4 5 6 7 8 9 10", train=2, test=1), refused=("train_32x32.mat",)
)
def svhn(files: Files) -> None:
    for split, count in (("train", 20), ("test", 10)):
        pixels = np.random.default_rng(count).integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        digits = (np.arange(count, dtype=np.uint8) % 10 + 1).reshape(-1, 1)
        files.matlab(f"svhn/{split}_32x32.mat", X=pixels, y=digits)


@dataset(
    "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    "tiny-imagenet-200",
    classes(WNIDS, train=3, val=2),
    never=("test/*",),
)
def tiny_imagenet(files: Files) -> None:
    folder = "tiny-imagenet-200"
    for wnid in WNIDS:
        files.numbered(f"{folder}/train/{wnid}/images/{wnid}_{{}}.JPEG", range(3))
        files.text(f"{folder}/train/{wnid}/{wnid}_boxes.txt", *(f"{wnid}_{i}.JPEG\t0\t0\t7\t7" for i in range(3)))
    files.numbered(f"{folder}/val/images/val_{{}}.JPEG", range(6))
    files.text(f"{folder}/val/val_annotations.txt", *(f"val_{i}.JPEG\t{WNIDS[i % 3]}\t0\t0\t7\t7" for i in range(6)))
    files.numbered(f"{folder}/test/images/test_{{}}.JPEG", range(4))
    files.text(f"{folder}/wnids.txt", *WNIDS, "n01443537")
    files.text(f"{folder}/words.txt", *(f"{w}\t{words}" for w, words in zip(WNIDS, WORDS, strict=True)), "n99\tx")


PLACES = ("/a/airfield", "/b/bazaar/indoor", "/b/bazaar/outdoor", "/w/wave")


@dataset(
    f"{TORCHVISION}/places365.py",
    ".",
    *(classes((name.removeprefix(prefix) for name in PLACES), train=3, val=1) for prefix in ("", "/")),
)
def places365(files: Files) -> None:
    rows = [f"{place}/{i:08}.jpg {k}" for k, place in enumerate(PLACES) for i in (1, 2, 3)]
    files.images(*(f"data_256_standard{row.split()[0]}" for row in rows))
    files.text("places365_train_standard.txt", *rows)
    val = [f"Places365_val_{i + 1:08}.jpg {k}" for i, k in enumerate((2, 0, 3, 1))]
    files.images(*(f"val_256/{row.split()[0]}" for row in val))
    files.text("places365_val.txt", *val)
    files.text("places365_test.txt", *(f"Places365_test_{i:08}.jpg" for i in range(1, 4)))
    files.text("categories_places365.txt", *(f"{place} {k}" for k, place in enumerate(PLACES)))


@dataset(
    "https://github.com/CSAILVision/places365",
    "places365_standard",
    classes("airfield bazaar-indoor wave", train=3, val=1),
)
def places365_easy(files: Files) -> None:
    lists: dict[str, list[str]] = {"train": [], "val": []}
    for place in ("airfield", "bazaar-indoor", "wave"):
        lists["train"] += [f"train/{place}/{i:08}.jpg" for i in (1, 2, 3)]
        lists["val"] += [f"val/{place}/Places365_val_{i:08}.jpg" for i in (7,)]
    for split, names in lists.items():
        files.images(*(f"places365_standard/{name}" for name in names))
        files.text(f"places365_standard/{split}.txt", *names)


SCENES = ("a/abbey", "a/athletic_field/outdoor", "b/bazaar/indoor", "b/bazaar/outdoor")


@dataset(
    f"{TORCHVISION}/sun397.py",
    "SUN397",
    *(
        classes(names, **splits)
        for names in (SCENES, [f"/{n}" for n in SCENES], [n[2:] for n in SCENES])
        for splits in ({"train": 2, "test": 2}, {"none": 5})
    ),
)
def sun397(files: Files) -> None:
    names = [f"/{scene}/sun_a{letter}qdkqas.jpg" for scene in SCENES for letter in "abcde"]
    files.images(*(f"SUN397{name}" for name in names))
    files.text("SUN397/ClassName.txt", *(f"/{scene}" for scene in SCENES))
    for part in (1, 2):
        files.text(f"SUN397/Partitions/Training_{part:02}.txt", *(n for i, n in enumerate(names) if (i + part) % 5 < 2))
        files.text(
            f"SUN397/Partitions/Testing_{part:02}.txt", *(n for i, n in enumerate(names) if 2 <= (i + part) % 5 < 4)
        )
    files.text("SUN397/Partitions/ClassName.txt", *(f"/{scene}" for scene in SCENES))
    files.text("SUN397/README.txt", "Scenes")


ROOMS = classes("airport_inside bakery", train=3, test=1)


@dataset("https://web.mit.edu/torralba/www/indoor.html", "indoor", ROOMS)
def indoor67(files: Files) -> None:
    for name in ("airport_inside", "bakery"):
        files.numbered(f"indoor/Images/{name}/{name}_{{:04}}.jpg", range(1, 5))
    lists = {"Train": (1, 2, 3), "Test": (4,)}
    for split, numbers in lists.items():
        names = [f"{name}/{name}_{i:04}.jpg" for name in ("airport_inside", "bakery") for i in numbers]
        files.text(f"indoor/{split}Images.txt", *names)


DOGS = ("n02085620-Chihuahua", "n02085782-Japanese_spaniel")


@dataset(
    "http://vision.stanford.edu/aditya86/ImageNetDogs/",
    "dogs",
    classes(DOGS, train=3, test=1),
    classes(DOGS, none=4),
    options=("--task", "classify"),
)
def stanford_dogs(files: Files) -> None:
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for dog in DOGS:
        for i in range(4):
            stem = f"{dog}/{dog[:9]}_{199 + i}"
            files.images(f"dogs/Images/{stem}.jpg")
            files.text(f"dogs/Annotation/{stem}", _voc(f"{stem.split('/')[1]}", dog[10:]))
            lists["test" if i == 3 else "train"].append(stem)
    for split, stems in lists.items():
        files.matlab(
            f"dogs/{split}_list.mat",
            file_list=[f"{stem}.jpg" for stem in stems],
            annotation_list=stems,
            labels=np.array([DOGS.index(stem.split("/")[0]) + 1 for stem in stems]),
        )
    files.matlab("dogs/file_list.mat", file_list=[f"{stem}.jpg" for stems in lists.values() for stem in stems])


PLANES = {"variant": ("707-320", "737-200", "A310"), "family": ("Boeing 707", "Boeing 737", "A310")}


@dataset(
    f"{TORCHVISION}/fgvc_aircraft.py",
    "fgvc-aircraft-2013b",
    *(classes(names, train=2, val=1, test=1) for names in PLANES.values()),
    *(classes(names, train=3, test=1) for names in PLANES.values()),
    {"Boeing": {"train": 4, "val": 2, "test": 2}, "Airbus": {"train": 2, "val": 1, "test": 1}},
)
def fgvc_aircraft(files: Files) -> None:
    data = "fgvc-aircraft-2013b/data"
    numbers = {
        "train": [1025794 + i for i in range(6)],
        "val": [1340192 + i for i in range(3)],
        "test": [2060000 + i for i in range(3)],
    }
    numbers["trainval"] = numbers["train"] + numbers["val"]
    labels = {**PLANES, "manufacturer": ("Boeing", "Boeing", "Airbus")}
    files.numbered(f"{data}/images/{{:07}}.jpg", numbers["trainval"] + numbers["test"])
    for split, ids in numbers.items():
        files.text(f"{data}/images_{split}.txt", *map(str, ids))
        for kind, names in labels.items():
            files.text(f"{data}/images_{kind}_{split}.txt", *(f"{n} {names[i % 3]}" for i, n in enumerate(ids)))
    files.text(f"{data}/images_box.txt", *(f"{n} 1 1 7 7" for n in numbers["trainval"] + numbers["test"]))
    for kind, plural in (("variant", "variants"), ("family", "families"), ("manufacturer", "manufacturers")):
        files.text(f"{data}/{plural}.txt", *dict.fromkeys(labels[kind]))
    files.text("fgvc-aircraft-2013b/README.md", "Aircraft")


@dataset(
    "https://www.kaggle.com/datasets/moltean/fruits",
    "fruits-360",
    {name: {"train": 3, "test": 2} for name in ("Apple Braeburn", "Apple Crimson Snow", "Apple Golden 1")},
    never=("test-multiple*",),
)
def fruits360(files: Files) -> None:
    for name in ("Apple Braeburn", "Apple Crimson Snow", "Apple Golden 1"):
        files.numbered(f"fruits-360/Training/{name}/{{}}_100.jpg", range(3))
        files.numbered(f"fruits-360/Test/{name}/{{}}_100.jpg", range(31, 33))
    files.images("fruits-360/test-multiple_fruits/apple_apricot.jpg", "fruits-360/test-multiple_fruits/cherries1.jpg")
    files.text("fruits-360/LICENSE", "CC BY-SA 4.0")
    files.text("fruits-360/readme.md", "Fruits")
    files.binary("fruits-360/papers/fruits.pdf")


@dataset(
    "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
    "celeba",
    classes([str(i) for i in range(2880, 2884)], none=2),  # the identities
    refused=("Bald", "Smiling"),
)
def celeba(files: Files) -> None:
    names = [f"{i:06}.jpg" for i in range(1, 9)]
    files.images(*(f"celeba/img_align_celeba/{name}" for name in names))
    rows = (f"{n}  {'1' if i % 2 else '-1'} {'1' if i % 3 else '-1'} -1" for i, n in enumerate(names))
    files.text("celeba/list_attr_celeba.txt", "8", "Bald Smiling Young ", *rows)
    files.text("celeba/list_eval_partition.txt", *(f"{n} {i // 3}" for i, n in enumerate(names)))
    files.text("celeba/identity_CelebA.txt", *(f"{n} {2880 + i // 2}" for i, n in enumerate(names)))


@dataset(
    "https://www.mvtec.com/company/research/datasets/mvtec-ad",
    "bottle",
    {"good": {"train": 4, "test": 2}, "broken_large": {"test": 2}, "contamination": {"test": 2}},
    never=("ground_truth/*",),
)
def mvtec_ad(files: Files) -> None:
    files.numbered("bottle/train/good/{:03}.png", range(4))
    for name in ("good", "broken_large", "contamination"):
        files.numbered(f"bottle/test/{name}/{{:03}}.png", range(2))
        if name != "good":
            files.numbered(f"bottle/ground_truth/{name}/{{:03}}_mask.png", range(2))
    files.text("bottle/readme.txt", "MVTec AD")
    files.text("bottle/license.txt", "CC BY-NC-SA 4.0")


DEFECTS = ("crazing", "inclusion", "patches")


@dataset(
    "https://www.kaggle.com/datasets/kaustubhdikshit/neu-surface-defect-database",
    "NEU-DET",
    classes(DEFECTS, train=3, val=1),
    options=("--task", "classify"),
)
def neu_surface_defects(files: Files) -> None:
    for split, numbers in (("train", (1, 10, 100)), ("validation", (241,))):
        for name in DEFECTS:
            files.numbered(f"NEU-DET/{split}/images/{name}/{name}_{{}}.jpg", numbers)
            for i in numbers:
                files.text(f"NEU-DET/{split}/annotations/{name}_{i}.xml", _voc(f"{name}_{i}.jpg", name))


@dataset(
    "https://github.com/brendenlake/omniglot",
    "images_background",
    classes("Greek Korean", none=6),  # alphabets, with their characters as groups
    {f"{alphabet}/character{i:02}": {"none": 3} for alphabet in ("Greek", "Korean") for i in (1, 2)},
)
def omniglot(files: Files) -> None:
    for k, alphabet in enumerate(("Greek", "Korean")):
        for i in (1, 2):
            files.numbered(
                f"images_background/{alphabet}/character{i:02}/{709 + 2 * k + i:04}_{{:02}}.png", range(1, 4)
            )
