"""Test `headstart check` and `headstart show`: exit codes, outputs, and that user files are unchanged."""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
import signal
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import headstart
from headstart.cli.main import main
from headstart.types.codes import FindingKind

Make = Callable[..., Path]


@dataclass
class Done:
    """Result of a command."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Done]]:
    """Run a command in this process, like a shell."""
    before = signal.getsignal(signal.SIGINT)

    def run(*arguments: str | Path) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([str(a) for a in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Done(int(stopped.value.code or 0), captured.out, captured.err)

    yield run
    signal.signal(signal.SIGINT, before)


def state_of(root: Path) -> dict[str, tuple[int, int, int]]:
    """Return every file and folder with its size, mode and time."""
    state = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        state[str(path)] = (status.st_size, status.st_mode, status.st_mtime_ns)
    return state


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory, make_images: Make) -> Path:
    return make_images(tmp_path_factory.mktemp("healthy"), {"stripes": 12, "discs": 12})


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory, make_images: Make) -> Path:
    """Two leaks, one image under two labels, one broken file."""
    root = tmp_path_factory.mktemp("leaky")
    make_images(root / "train", {"stripes": 12, "discs": 12})
    make_images(root / "test", {"stripes": 12, "discs": 12}, first_seed=60)
    shutil.copy(root / "train/stripes/001.jpg", root / "test/stripes/000.jpg")
    Image.open(root / "train/discs/002.jpg").save(root / "test/discs/003.jpg", quality=60)
    shutil.copy(root / "train/discs/007.jpg", root / "train/stripes/other.jpg")
    (root / "test/discs/004.jpg").write_bytes((root / "test/discs/005.jpg").read_bytes()[:900])
    return root


def test_clean_data_exit_with_0(command: Callable[..., Done], healthy: Path) -> None:
    done = command("check", healthy, "--pixels-only")
    assert (done.code, done.out) == (0, "")
    assert [line.split()[0] for line in done.err.splitlines()] == ["Dataset", "Checks", "Next"]
    assert findings_of(command("check", healthy, "--pixels-only", "--json", "-")) == []


def test_next_command_repeats_the_reading_options(command: Callable[..., Done], healthy: Path) -> None:
    options = ["--layout", "{label}/*", "--exclude", "stripes/001*", "--exclude", "discs/001*", "--pages", "max"]
    options += ["--group-from", "none", "--max-pixels", "99999", "--intensity-range", "0,255"]
    done = command("check", healthy, "--pixels-only", *options)
    words = shlex.split(done.err.splitlines()[-1])
    assert words[1:3] == ["headstart", "train"]
    pairs = list(zip(words[4::2], words[5::2], strict=True))
    assert sorted(pairs) == sorted(zip(options[::2], options[1::2], strict=True))


def test_misleading_data_exit_with_3(command: Callable[..., Done], leaky: Path) -> None:
    done = command("check", leaky, "--pixels-only", "-v")
    assert (done.code, done.out) == (3, "")
    lines = done.err.splitlines()[1:]
    assert "test/stripes/000.jpg" in lines[0]  # the leaks
    labels = [line[:10].strip() for line in lines if line[:10].strip()]
    assert labels == sorted(labels, key=["Error", "Warning", "Note"].index)
    (unreadable,) = (line for line in lines if "test/discs/004.jpg" in line)
    assert "truncated" in unreadable
    assert any("train/stripes/other.jpg" in line for line in lines)
    short = command("check", leaky, "--pixels-only").err.splitlines()
    assert len(short) <= 12
    assert max(map(len, short)) <= 100
    quiet = command("check", leaky, "--pixels-only", "-q").err.splitlines()
    assert len(quiet) == 1
    assert "3 errors" in quiet[0]


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda root: None, 0),
        (lambda root: (root / "discs" / "empty.jpg").touch(), 3),
        (lambda root: shutil.copy(root / "discs" / "001.jpg", root / "stripes" / "x.jpg"), 3),
        (lambda root: shutil.copy(root / "discs" / "001.jpg", root / "discs" / "x.jpg"), 0),  # kept together: unbiased
        (lambda root: (root / "discs" / "notes.heic").write_bytes(b"x" * 50), 3),
        (lambda root: (root / "notes.txt").write_text("hello"), 0),
    ],
    ids=["nothing", "empty file", "two labels", "a copy", "foreign format", "a note"],
)
def test_misleading_findings(
    command: Callable[..., Done], healthy: Path, tmp_path: Path, spoil: Callable[[Path], object], code: int
) -> None:
    root = tmp_path / "d"
    shutil.copytree(healthy, root)
    spoil(root)
    done = command("check", root, "--pixels-only")
    assert done.code == code, done.err


def test_json_output(command: Callable[..., Done], leaky: Path, tmp_path: Path) -> None:
    done = command("check", leaky, "--pixels-only", "--json", "-")
    assert done.code == 3
    value = json.loads(done.out)
    assert value["counts"]["leaks"] == 2
    assert {k["name"]: k["kind"] for k in value["unreadable"]} == {"test/discs/004.jpg": "truncated"}
    for leak in value["leaks"]:
        assert (leaky / leak["a"]).is_file()
        assert (leaky / leak["b"]).is_file()
        assert {leak["split_a"], leak["split_b"]} == {"train", "test"}
        assert 0.9 < leak["similarity"] <= 1
    lists = {"unreadable", "duplicates", "near_duplicates", "leaks", "label_conflicts", "group_patterns"}
    assert set(value) >= lists | {"layout", "formats", "classes"}
    assert value["classes"]["stripes"] == {"train": 13, "test": 12}
    done = command("check", leaky, "--pixels-only", "--json", tmp_path / "dataset_report.json")
    assert json.loads((tmp_path / "dataset_report.json").read_text(encoding="utf-8")) == value
    assert any(line.startswith("Written") and "dataset_report.json" in line for line in done.err.splitlines())


def test_sheet_of_pairs(command: Callable[..., Done], leaky: Path, healthy: Path, tmp_path: Path) -> None:
    done = command("check", leaky, "--pixels-only", "--sheet", tmp_path / "pairs.png")
    assert done.code == 3
    sheet = Image.open(tmp_path / "pairs.png")
    assert sheet.height > 3 * 160  # three pairs, stacked
    assert np.asarray(sheet).std() > 20
    done = command("check", healthy, "--pixels-only", "--sheet", tmp_path / "none.png")
    assert done.code == 0
    assert not (tmp_path / "none.png").exists()


def test_train_accepts_repaired_split(command: Callable[..., Done], leaky: Path, tmp_path: Path) -> None:
    done = command("check", leaky, "--pixels-only", "--repair", tmp_path / "split.csv")
    assert done.code == 3
    with open(tmp_path / "split.csv", encoding="utf-8", newline="") as file:
        split = {row["image"]: row["split"] for row in csv.DictReader(file)}
    left_out = {name for name, side in split.items() if not side}
    assert left_out == {
        "test/stripes/000.jpg", "test/discs/003.jpg", "test/discs/004.jpg", "train/discs/007.jpg",
        "train/stripes/other.jpg",
    }  # fmt: skip
    assert all(side == name.split("/")[0] for name, side in split.items() if side)  # nothing else moved
    assert any(line.startswith("Written") and "5 images" in line for line in done.err.splitlines())
    run = headstart.train(leaky, out=tmp_path / "run", split=str(tmp_path / "split.csv"))
    assert run.metrics["test"]["num_samples"] == 21
    assert run.metrics["test_including_leaks"] is None
    report = json.loads((run.folder / "dataset_report.json").read_text(encoding="utf-8"))
    assert (report["leaks"], report["label_conflicts"], report["unreadable"]) == ([], [], [])


@pytest.fixture
def by_patient(tmp_path: Path, make_images: Make) -> Callable[[Callable[[int], str]], Path]:
    """Write a table of 48 images of 12 patients with a split per image from a function."""
    make_images(tmp_path / "d", {"stripes": 24, "discs": 24}, first_seed=200)
    names = [f"{kind}/{i:03d}.jpg" for kind in ("stripes", "discs") for i in range(24)]

    def write(side: Callable[[int], str]) -> Path:
        rows = [f"{name},{name.split('/')[0]},{side(k)},p{k // 4}" for k, name in enumerate(names)]
        (tmp_path / "d" / "table.csv").write_text("image,label,split,group\n" + "\n".join(rows) + "\n", "utf-8")
        return tmp_path / "d" / "table.csv"

    return write


def splits_of_patients(path: Path) -> list[set[str]]:
    with open(path, encoding="utf-8", newline="") as file:
        split = [row["split"] for row in csv.DictReader(file)]
    return [set(split[k : k + 4]) for k in range(0, 48, 4)]


def test_divided_patient_moves_to_one_split(
    command: Callable[..., Done], by_patient: Callable[[Callable[[int], str]], Path], tmp_path: Path
) -> None:
    # The last three patients of each class are scored; four images of patients 0 and 3 are in the wrong split.
    moved = {0: "test", 12: "test", 13: "test", 14: "test"}
    table = by_patient(lambda k: moved.get(k, "train" if k % 24 < 16 or k % 24 == 16 else "test"))
    done = command("check", table, "--pixels-only", "--repair", tmp_path / "split.csv")
    assert done.code == 3
    assert "on both sides of your split" in done.err
    assert splits_of_patients(tmp_path / "split.csv") == [
        {"train"}, {"train"}, {"train"}, {"test"}, {"test"}, {"test"},
        {"train"}, {"train"}, {"train"}, {"train"}, {"test"}, {"test"},
    ]  # fmt: skip
    assert "4 " in done.err
    run = headstart.train(table, out=tmp_path / "run", split=str(tmp_path / "split.csv"))
    assert run.metrics["test"]["num_samples"] == 20
    report = json.loads((run.folder / "dataset_report.json").read_text(encoding="utf-8"))
    assert "groups_across_splits" not in {f["kind"] for f in report["findings"]}


def test_random_split_is_redrawn_by_patient(
    command: Callable[..., Done], by_patient: Callable[[Callable[[int], str]], Path], tmp_path: Path
) -> None:
    table = by_patient(lambda k: "test" if k % 4 == 1 else "train")
    done = command("check", table, "--pixels-only", "--repair", tmp_path / "split.csv")
    assert done.code == 3
    sides = splits_of_patients(tmp_path / "split.csv")
    assert all(len(side) == 1 for side in sides)
    assert {"test"} in sides[:6]  # of stripes
    assert {"test"} in sides[6:]  # of discs


def test_user_folder_is_unchanged(
    command: Callable[..., Done], leaky: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state_of(leaky)
    monkeypatch.chdir(tmp_path)
    command("check", leaky, "--pixels-only", "--json", "h.json", "--sheet", "s.png", "--repair", "r.csv")
    command("show", leaky, "--out", "samples.png", "--per-class", "2")
    assert state_of(leaky) == before
    assert {p.name for p in tmp_path.iterdir()} == {"h.json", "s.png", "r.csv", "samples.png"}


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_read_only_folder(command: Callable[..., Done], healthy: Path, tmp_path: Path) -> None:
    root = tmp_path / "d"
    shutil.copytree(healthy, root)
    for folder in (root / "discs", root / "stripes", root):
        folder.chmod(0o555)
    try:
        assert command("check", root, "--pixels-only").code == 0
    finally:
        for folder in (root, root / "discs", root / "stripes"):
            folder.chmod(0o755)


@pytest.mark.parametrize(
    ("option", "place"),
    [
        ("--json", "{tmp}/none/h.json"),
        ("--sheet", "{tmp}/none/s.png"),
        ("--repair", "{tmp}/none/r.csv"),
        ("--repair", "{tmp}"),
    ],
)
def test_unwritable_output_is_refused(
    command: Callable[..., Done], leaky: Path, tmp_path: Path, option: str, place: str
) -> None:
    done = command("check", leaky, "--pixels-only", option, place.format(tmp=tmp_path))
    assert done.code == 2
    assert "cannot write" in done.err


def test_broken_files_only(command: Callable[..., Done], tmp_path: Path) -> None:
    for k in range(8):
        (tmp_path / "d" / "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / "ab"[k % 2] / f"{k}.jpg").write_bytes(b"\x01\x02" * 40)
    done = command("check", tmp_path / "d")  # with a network, but no readable image
    assert done.code == 3
    assert "8 files" in done.err
    done = command("check", tmp_path / "d", "--json", "-")
    (unreadable, *classes) = findings_of(done)
    assert (unreadable["kind"], unreadable["count"]) == ("unreadable_files", 8)
    assert classes == [{"kind": "class_without_images", "class": name} for name in "ab"]


def findings_of(done: Done) -> list[dict[str, object]]:
    return [{"kind": f["kind"], **f["evidence"]} for f in json.loads(done.out)["findings"]]


def test_check_reports_training_errors(command: Callable[..., Done], healthy: Path, tmp_path: Path) -> None:
    root = tmp_path / "d"
    shutil.copytree(healthy / "discs", root / "discs")
    findings = findings_of(command("check", root, "--pixels-only", "--json", "-"))
    assert {"kind": "single_class", "class": "discs"} in findings
    (root / "lonely").mkdir()
    shutil.copy(healthy / "stripes" / "001.jpg", root / "lonely")
    findings = findings_of(command("check", root, "--pixels-only", "--json", "-"))
    assert {"kind": "class_with_one_image", "class": "lonely"} in findings


def test_unknown_sheet_format(command: Callable[..., Done], leaky: Path, tmp_path: Path) -> None:
    done = command("check", leaky, "--pixels-only", "--sheet", tmp_path / "pairs.pdf")
    assert done.code == 2
    assert ".png or .jpg" in done.err
    assert len(done.err.splitlines()) == 2  # error and hint: no image was scanned


def test_check_zip(command: Callable[..., Done], leaky: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for file in sorted(leaky.rglob("*.jpg")):
            archive.write(file, f"top/{file.relative_to(leaky).as_posix()}")
    before = state_of(tmp_path)
    done = command("check", tmp_path / "data.zip", "--pixels-only", "--json", "-")
    assert done.code == 3
    assert json.loads(done.out)["counts"]["leaks"] == 2
    assert state_of(tmp_path) == before


@pytest.mark.parametrize(
    ("build", "flags"),
    [
        (  # either folder level may be the classes
            [
                f"{a}/{b}/{i}.jpg"
                for a in ("kitchen", "garden", "attic")
                for b in ("cat", "dog", "owl")
                for i in range(4)
            ],
            ["--layout '{label}/{group}/*'", "--layout '{group}/{label}/*'"],
        ),
        (  # splits next to another folder
            [f"{a}/x/{i}.jpg" for a in ("train", "test", "backup") for i in range(4)],
            ["--layout '{label}/**'"],
        ),
    ],
    ids=["two levels", "splits and more"],
)
def test_ambiguous_layout_names_option(
    command: Callable[..., Done], healthy: Path, tmp_path: Path, build: list[str], flags: list[str]
) -> None:
    source = sorted(healthy.rglob("*.jpg"))
    for i, name in enumerate(build):
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source[i % len(source)], tmp_path / "d" / name)
    for verb in ("check", "train"):
        done = command(verb, tmp_path / "d")
        assert done.code == 2
        for flag in flags:
            assert flag in done.err
    assert command("check", tmp_path / "d", "--pixels-only", "--layout", flags[0].split("'")[1]).code in (0, 3)


def test_table_conflicting_with_folders(command: Callable[..., Done], healthy: Path, tmp_path: Path) -> None:
    root = tmp_path / "d"
    shutil.copytree(healthy, root)
    names = sorted(f.relative_to(root).as_posix() for f in root.rglob("*.jpg"))
    rows = [f"{name},{'odd' if i % 2 else 'even'}" for i, name in enumerate(names)]
    (root / "labels.csv").write_text("\n".join(["image,label", *rows]))
    done = command("check", root)
    assert done.code == 2
    assert "`labels.csv`" in done.err
    assert "--layout '{label}/*'" in done.err
    assert command("check", root / "labels.csv", "--pixels-only").code in (0, 3)
    assert command("check", root, "--layout", "{label}/*", "--pixels-only").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["check", "{tmp}/none"], 3, "does not exist"),
        (["check", "{tmp}"], 3, "no image"),
        (["check", "{healthy}", "--range", "5"], 2, "LOW,HIGH"),
        (["check", "{healthy}", "--layout", "{oops}/*"], 2, "unknown"),
        (["show", "{healthy}", "--out", "{tmp}/x.pdf"], 2, ".png or .jpg"),
        (["show", "{tmp}/none"], 3, "does not exist"),
        (
            ["show", "{healthy}", "--preprocessed", "--backbone", "no_such_net", "--out", "{tmp}/x.png"],
            2,
            "no_such_net",
        ),
    ],
)
def test_usage_errors_have_message_and_code(
    command: Callable[..., Done], healthy: Path, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    filled = [a.replace("{tmp}", str(tmp_path)).replace("{healthy}", str(healthy)) for a in arguments]
    done = command(*filled)
    assert done.code == code, done.err
    assert words in done.err


def test_raised_pixel_limit(command: Callable[..., Done], healthy: Path, tmp_path: Path) -> None:
    root = tmp_path / "d"
    shutil.copytree(healthy, root)
    Image.open(root / "discs/001.jpg").resize((500, 400)).save(root / "discs/large.png")
    assert command("check", root, "--pixels-only", "--max-pixels", 100_000).code == 3
    assert "limit of 100,000" in command("check", root, "--pixels-only", "--max-pixels", 100_000, "-v").err
    assert command("check", root, "--pixels-only", "--max-pixels", 200_000).code == 0


def test_odd_names_are_escaped(command: Callable[..., Done], healthy: Path, tmp_path: Path) -> None:
    root = tmp_path / "d"
    shutil.copytree(healthy, root)
    data = (root / "discs" / "001.jpg").read_bytes()
    for name in (b"new\nline.jpg", b"\xff\xfe.jpg", "Ω 漢字.jpg".encode()):
        with open(os.path.join(os.fsencode(root), b"stripes", name), "wb") as file:
            file.write(data)
    done = command("check", root, "--pixels-only", "--json", "-")
    assert done.code == 3
    names = {n for p in json.loads(done.out)["duplicates"] for n in (p["a"], p["b"])}
    assert {"stripes/new\nline.jpg", r"stripes/\xff\xfe.jpg", "stripes/Ω 漢字.jpg"} < names
    lines = command("check", root, "--pixels-only", "-v").err.splitlines()
    assert {line[:10].strip() for line in lines} <= {"Dataset", "Error", "Warning", "Note", ""}, lines


def test_notebook_display(healthy: Path, leaky: Path, tmp_path: Path) -> None:
    findings = headstart.check(leaky, use_network=False, json_file=tmp_path / "h.json")
    assert findings._repr_html_().count("<tr>") == len(repr(findings).splitlines())
    assert [f.kind for f in findings.findings][:2] == [FindingKind.LEAKING_IMAGES, FindingKind.LABEL_CONFLICTS]
    assert "test/discs/003.jpg" in repr(findings).splitlines()[1]
    table = findings.to_pandas()
    assert len(table) == 3
    assert set(table.columns) >= {"a", "b", "kind", "similarity"}
    assert headstart.check(healthy, use_network=False).to_pandas().empty


def test_network_confirms_duplicates(leaky: Path) -> None:
    plain, helped = (headstart.check(leaky, use_network=way).to_json() for way in (False, True))
    assert plain["leaks"] == helped["leaks"]
    assert plain["unreadable"] == helped["unreadable"]


def test_show_draws_network_input(command: Callable[..., Done], healthy: Path, tmp_path: Path) -> None:
    done = command(
        "show", healthy, "--preprocessed", "--image-size", "96", "--per-class", "3", "--out", tmp_path / "seen.png"
    )
    assert done.code == 0
    assert np.asarray(Image.open(tmp_path / "seen.png")).std() > 20
    assert " px)" in done.err
