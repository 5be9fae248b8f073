"""Layouts of published datasets of plants, skin, chest X-rays and eyes."""

from __future__ import annotations

from dataset_files import Files, classes, dataset

KAGGLE = "https://www.kaggle.com"
LEAVES = ("Apple___Apple_scab", "Corn_(maize)___healthy", "Pepper,_bell___Bacterial_spot")


@dataset(
    "https://github.com/spMohanty/PlantVillage-Dataset",
    "raw",
    classes(LEAVES, none=3),
    never=("grayscale/*", "segmented/*"),
)
def plantvillage(files: Files) -> None:
    for leaf in LEAVES:
        for i in range(3):
            stem = f"00075aa8-d81a-4184-8541-b692b78d398{i}___FREC_Scab 333{i}"
            files.images(f"raw/color/{leaf}/{stem}.JPG", f"raw/grayscale/{leaf}/{stem}.JPG")
            files.images(f"raw/segmented/{leaf}/{stem}_final_masked.jpg")


@dataset(f"{KAGGLE}/c/plant-pathology-2021-fgvc8/data", "plant-pathology", refused=("`labels`", "train.csv"))
def plant_pathology_2021(files: Files) -> None:
    labels = ("scab", "healthy", "scab frog_eye_leaf_spot", "rust", "complex", "rust complex", "healthy", "scab")
    names = [f"{800113 + i:06x}f29ae.jpg" for i in range(len(labels))]
    files.images(*(f"plant-pathology/train_images/{name}" for name in names))
    files.images("plant-pathology/test_images/85f8cb619c66b863.jpg", "plant-pathology/test_images/ad8770db05586b59.jpg")
    files.text("plant-pathology/train.csv", "image,labels", *map(",".join, zip(names, labels, strict=True)))
    test = ("85f8cb619c66b863.jpg", "ad8770db05586b59.jpg")
    files.text("plant-pathology/sample_submission.csv", "image,labels", *(f"{name},healthy" for name in test))


@dataset(f"{KAGGLE}/datasets/kmader/skin-cancer-mnist-ham10000", ".", classes("bkl mel nv", none=4))
def ham10000(files: Files) -> None:
    rows = []
    for i in range(12):
        files.images(f"HAM10000_images_part_{i % 2 + 1}/ISIC_{24306 + i:07}.jpg")
        rows.append(f"HAM_{i // 2:07},ISIC_{24306 + i:07},{('bkl', 'mel', 'nv')[i // 4]},histo,{40 + i}.0,male,scalp")
    files.text("HAM10000_metadata.csv", "lesion_id,image_id,dx,dx_type,age,sex,localization", *rows)
    for name, count in (("8_8_L", 64), ("8_8_RGB", 192)):
        pixels = ",".join(f"pixel{i:04}" for i in range(count))
        lines = (",".join(["190"] * count + [str(i // 4)]) for i in range(12))
        files.text(f"hmnist_{name}.csv", f"{pixels},label", *lines)


@dataset(
    "https://challenge.isic-archive.com/data/#2018",
    "ISIC2018",
    classes("MEL NV BCC", train=3, val=1, test=1),
)
def isic2018(files: Files) -> None:
    kinds = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
    first = 24306
    for split, count in (("Training", 9), ("Validation", 3), ("Test", 3)):
        stem = f"ISIC2018_Task3_{split}"
        rows = []
        for i in range(count):
            files.images(f"ISIC2018/{stem}_Input/ISIC_{first:07}.jpg")
            rows.append(f"ISIC_{first:07}," + ",".join("1.0" if k == i % 3 else "0.0" for k in range(7)))
            first += 1
        files.text(f"ISIC2018/{stem}_GroundTruth/{stem}_GroundTruth.csv", ",".join(("image", *kinds)), *rows)
        for folder in (f"{stem}_Input", f"{stem}_GroundTruth"):
            files.text(f"ISIC2018/{folder}/ATTRIBUTION.txt", "HAM10000 Dataset: (c) by ViDIR Group")
            files.text(f"ISIC2018/{folder}/LICENSE.txt", "Attribution-NonCommercial 4.0 International")
    groups = (f"ISIC_{i:07},HAM_{i // 2:07},histopathology" for i in range(24306, 24315))
    files.text(
        "ISIC2018/ISIC2018_Task3_Training_LesionGroupings.csv", "image,lesion_id,diagnosis_confirm_type", *groups
    )


@dataset(f"{KAGGLE}/datasets/nih-chest-xrays/data", "nih", refused=("`Finding Labels`", "Data_Entry_2017.csv"))
def nih_chest_xray(files: Files) -> None:
    found = ("Cardiomegaly", "Cardiomegaly|Emphysema", "No Finding", "Effusion", "Effusion|Mass|Nodule", "No Finding")
    names = [f"{i // 2 + 1:08}_{i % 2:03}.png" for i in range(len(found))]
    for i, name in enumerate(names):
        files.images(f"nih/images_{i // 3 + 1:03}/images/{name}", num_channels=1)
    header = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    header += "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
    rows = (
        f"{n},{label},0,{i // 2 + 1},58,M,PA,2682,2749,0.143,0.143,"
        for i, (n, label) in enumerate(zip(names, found, strict=True))
    )
    files.text("nih/Data_Entry_2017.csv", header, *rows)
    files.text(
        "nih/BBox_List_2017.csv", "Image Index,Finding Label,Bbox [x,y,w,h],,,", f"{names[3]},Effusion,1,1,3,3,,,"
    )
    files.text("nih/train_val_list.txt", *names[:4])
    files.text("nih/test_list.txt", *names[4:])
    files.text("nih/README_CHESTXRAY.pdf", "%PDF-1.4")


LUNGS = ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")


@dataset(
    f"{KAGGLE}/datasets/tawsifurrahman/covid19-radiography-database",
    "COVID-19_Radiography_Dataset",
    classes(LUNGS, none=3),
    never=("*/masks/*",),
)
def covid19_radiography(files: Files) -> None:
    root = "COVID-19_Radiography_Dataset"
    for name in LUNGS:
        for kind in ("images", "masks"):
            files.numbered(f"{root}/{name}/{kind}/{name}-{{}}.png", range(1, 4))
        header = ("FILE NAME", "FORMAT", "SIZE", "URL")
        rows = [(f"{name.upper()}-{i}", "PNG", "256*256", "https://sirm.org/category/covid-19/") for i in range(1, 4)]
        files.spreadsheet(f"{root}/{name}.metadata.xlsx", [header, *rows])
    files.text(f"{root}/README.md.txt", "Radiography")


XRAYS = {"NORMAL": "IM-{:04}-0001.jpeg", "PNEUMONIA": "person{}_bacteria_1.jpeg"}


@dataset(f"{KAGGLE}/datasets/paultimothymooney/chest-xray-pneumonia", ".", classes(XRAYS, train=4, val=1, test=2))
def kermany_xray(files: Files) -> None:
    for folder in ("chest_xray", "chest_xray/chest_xray"):
        for split, numbers in (("train", range(1, 5)), ("val", range(7, 8)), ("test", range(9, 11))):
            for name, pattern in XRAYS.items():
                for i in numbers:
                    file = files.path(f"{folder}/{split}/{name}/{pattern.format(i)}")
                    Files(file.parent).images(file.name)
                files.binary(f"chest_xray/__MACOSX/chest_xray/{split}/{name}/._{pattern.format(1)}")
            files.binary(f"{folder}/{split}/.DS_Store")
    files.binary("chest_xray/.DS_Store")


@dataset(
    f"{KAGGLE}/datasets/paultimothymooney/kermany2018", ".", classes("CNV DME DRUSEN NORMAL", train=4, val=1, test=1)
)
def kermany_oct(files: Files) -> None:
    for folder in ("OCT2017 ", "oct2017/OCT2017 "):
        for split, patients in (("train", (1016042, 1016043)), ("val", (103044,)), ("test", (1219303,))):
            for name in ("CNV", "DME", "DRUSEN", "NORMAL"):
                for patient in patients:
                    for i in range(1, 3 if split == "train" else 2):
                        file = files.path(f"{folder}/{split}/{name}/{name}-{patient}-{i}.jpeg")
                        Files(file.parent).images(file.name)
    files.binary("OCT2017 /.DS_Store")


@dataset(
    f"{KAGGLE}/c/aptos2019-blindness-detection/data",
    "aptos2019",
    classes("0 1 2 3 4", none=2),
    classes("0 1 2 3 4", train=2),
    never=("test_images/*",),
)
def aptos2019(files: Files) -> None:
    ids = [f"{0x000C1434D8D7 + 7919 * i:012x}" for i in range(14)]
    files.images(*(f"aptos2019/train_images/{name}.png" for name in ids[:10]))
    files.images(*(f"aptos2019/test_images/{name}.png" for name in ids[10:]))
    files.text("aptos2019/train.csv", "id_code,diagnosis", *(f"{name},{i % 5}" for i, name in enumerate(ids[:10])))
    files.text("aptos2019/test.csv", "id_code", *ids[10:])
    files.text("aptos2019/sample_submission.csv", "id_code,diagnosis", *(f"{name},0" for name in ids[10:]))


CELLS = ("EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL")


@dataset(f"{KAGGLE}/datasets/paultimothymooney/blood-cells", "dataset2-master", classes(CELLS, train=3, test=3))
def blood_cells(files: Files) -> None:
    root = "dataset2-master/dataset2-master"
    for name in CELLS:
        files.numbered(f"{root}/images/TRAIN/{name}/_0_{{}}.jpeg", range(1169, 1172))
        files.numbered(f"{root}/images/TEST/{name}/_0_{{}}.jpeg", range(187, 189))
        files.numbered(f"{root}/images/TEST_SIMPLE/{name}/_0_{{}}.jpeg", range(5239, 5240))
    files.text(f"{root}/labels.csv", ",Image,Category,", *(f"{i},{i},{CELLS[i % 4]}," for i in range(8)))


TISSUES = {"colon_image_sets": ("colon_aca", "colon_n"), "lung_image_sets": ("lung_aca", "lung_n", "lung_scc")}


@dataset(
    "https://github.com/tampapath/lung_colon_image_set",
    "lung_colon_image_set",
    classes((name for names in TISSUES.values() for name in names), none=4),
)
def lc25000(files: Files) -> None:
    for folder, names in TISSUES.items():
        for name in names:
            stem = name.replace("_", "").replace("colon", "colon").replace("aca", "ca")
            files.numbered(f"lung_colon_image_set/{folder}/{name}/{stem}{{}}.jpeg", range(1, 5))
