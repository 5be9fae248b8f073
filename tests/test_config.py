"""Test settings: explicit beats automatic, the command line beats the file, nothing is ignored."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from headstart.config.aliases import ALIASES, UNSUPPORTED
from headstart.config.settings import TrainSettings, known_names, merge_settings, parse_minutes, resolve
from headstart.errors import SettingError
from headstart.types.codes import DecisionReason
from headstart.types.records import Decision


def test_command_line_beats_file_beats_default(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("data: here\nseed: 3\nsize: 240\nprobe:\n  flip_tta: on\n")
    resolved = merge_settings({"image_size": 224}, config_file=file).resolve()
    assert (resolved.settings.seed, resolved.settings.image_size, resolved.settings.resize_mode) == (3, 224, "crop")
    assert resolved.settings.probe.flip_tta == "on"
    assert resolved.sources == {"data": "config", "seed": "config", "image_size": "cli", "probe.flip_tta": "config"}
    assert resolved.is_explicit("image_size")
    assert not resolved.is_explicit("resize_mode")


@pytest.mark.parametrize(
    ("name", "value", "ours"),
    [("arch", "lite1", "backbone"), ("model", "lite1", "backbone"), ("imgsz", 256, "image_size"),
     ("img_size", 256, "image_size"), ("train.size", 256, "image_size"),
     ("threads", 3, "num_threads"), ("test-size", 0.3, "test_size")],
)  # fmt: skip
def test_aliases_of_other_tools(name: str, value: object, ours: str) -> None:
    assert getattr(resolve({"data": "d", name: value}).settings, ours) == value
    overridden = resolve({"data": "d"}, overrides=[f"{name}={value}"])
    assert getattr(overridden.settings, ours) == value


def test_conflicting_aliases_raise() -> None:
    with pytest.raises(SettingError, match="is set to"):
        resolve({"data": "d", "image_size": 224, "imgsz": 256})
    assert resolve({"data": "d", "image_size": 224, "imgsz": 224}).settings.image_size == 224


def test_unknown_names_suggest_nearest() -> None:
    with pytest.raises(SettingError) as caught:
        resolve({"data": "d", "sede": 3})
    assert caught.value.hint == "did you mean `seed`?"
    assert caught.value.exit_code == 2


def test_every_alias_is_a_setting() -> None:
    assert set(ALIASES.values()) <= set(known_names())
    assert not set(UNSUPPORTED) & (set(ALIASES) | set(known_names()))


@pytest.mark.parametrize(
    ("name", "right_word"),
    [("freeze", "--train-from"), ("freeze-epochs", "--unfreeze"), ("val_split", "--folds"),
     ("amp", "finetune.precision"), ("lr_mult", "finetune.layer_decay"), ("warmup_epochs", "finetune.warmup"),
     ("exist-ok", "--out"), ("gpus", "--device"), ("early_stopping", "--patience"),
     ("pretrained", "--strategy scratch"), ("fliplr", "--augment")],
)  # fmt: skip
def test_foreign_option_error_names_setting(name: str, right_word: str) -> None:
    with pytest.raises(SettingError, match="unknown setting") as caught:
        resolve({"data": "d", "strategy": "finetune", name: 1})
    assert right_word in str(caught.value.hint)


def test_nearest_name_is_of_same_group() -> None:
    with pytest.raises(SettingError) as caught:
        resolve({"data": "d", "finetune.head_rl": 1})
    assert caught.value.hint == "did you mean `finetune.head_lr`?"
    with pytest.raises(SettingError) as caught:
        resolve({"data": "d", "finetune.xyz": 1})
    assert "--help" in str(caught.value.hint)


def test_every_setting_is_documented() -> None:
    folder = Path(__file__).parent.parent
    text = "".join(p.read_text(encoding="utf-8") for p in [folder / "README.md", *(folder / "docs").glob("*.md")])
    names_of = {
        name: [name, f"no_{name.removeprefix('include_')}", *(a for a, ours in ALIASES.items() if ours == name)]
        for name in known_names()
    }
    undocumented = [
        n
        for n, all_ in names_of.items()
        if not any(f"`{a}`" in text or f"--{a.replace('_', '-')}" in text for a in all_)
    ]
    assert undocumented == []


def test_optimizer_and_schedule_choices() -> None:
    from headstart.training.optim import OPTIMIZERS, SCHEDULES

    for name, there in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
        with pytest.raises(SettingError, match="cannot be 'none'") as caught:
            resolve({"data": "d", "strategy": "full", name: "none"})
        assert set(re.findall(r"'(\w+)'", caught.value.message)) == {"none", *there}
    assert resolve({"data": "d", "strategy": "full", "optimizer": "AdamW"}).settings.optimizer == "adamw"


@pytest.mark.parametrize(
    ("strategy", "given", "message"),
    [("head", {"finetune.layer_decay": 0.5}, "finetune.layer_decay"),
     ("finetune", {"train_from": "last", "finetune.layer_decay": 0.5}, "only one stage"),
     ("finetune", {"train_from": "head", "finetune.refit_head": True}, "`head`"),
     ("head", {"lr": 0.1, "finetune.head_lr": 0.1}, "only the head"),
     ("finetune", {"finetune.monitor": "val_accuracy"}, "without `patience`"),
     ("finetune", {"schedule": "onecycle", "finetune.warmup": 0.1}, "below 0.3"),
     ("finetune", {"augment": "none", "num_views": 3}, "augment: none"),
     ("finetune", {"epochs": 2, "num_views": 3}, "at most 2 views"),
     ("full", {"num_views": 3}, "augments every image"),
     ("auto", {"budget": "5m", "folds": 5}, "the budget determines"),
     ("auto", {"budget": "5m", "select": "best"}, "keeps the better model")],
)  # fmt: skip
def test_settings_without_effect_are_refused(strategy: str, given: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message) as caught:
        resolve({"data": "d", "strategy": strategy, **given})
    assert caught.value.hint


def test_effective_combinations_are_accepted() -> None:
    for given in (
        {"finetune.monitor": "val_accuracy", "patience": 3},
        {"schedule": "onecycle", "finetune.warmup": 0.4},
        {"augment": "none", "num_views": 1},
        {"epochs": 3, "num_views": 3},
        {"train_from": "last-2", "finetune.layer_decay": 0.5, "lr": 0.1, "finetune.head_lr": 0.1},
    ):
        assert resolve({"data": "d", "strategy": "finetune", **given}).settings.strategy == "finetune"


def test_setting_names_use_user_spelling() -> None:
    for name, value in (("train_from", "last"), ("head", "hidden=8")):
        with pytest.raises(SettingError, match=rf"^`{name}` has no effect"):
            resolve({"data": "d", name: value})
    with pytest.raises(SettingError, match=r"^`budget` cannot be '0'"):
        resolve({"data": "d", "budget": "0"})


def test_percent_and_balanced_are_accepted() -> None:
    settings = resolve({"data": "d", "test_size": "20%", "class_weight": "balanced"}).settings
    assert (settings.test_size, settings.probe.class_weights) == (0.2, "auto")
    assert TrainSettings(data="d", test_size=0.2).test_size == 0.2


@pytest.mark.parametrize("name", ["epochs", "lr", "lr0", "patience", "batch_size", "batch"])
def test_settings_without_effect_are_errors(name: str) -> None:
    with pytest.raises(SettingError, match="no effect"):
        resolve({"data": "d", name: 3})


@pytest.mark.parametrize(
    ("name", "value"),
    [("image_size", 3), ("seed", -1), ("test_size", 1.5), ("resize_mode", "stretch"), ("budget", "soon")],
)
def test_invalid_values_are_reported(name: str, value: object) -> None:
    with pytest.raises(SettingError, match=f"{value}"):
        resolve({"data": "d", name: value})


def test_durations() -> None:
    assert [parse_minutes(t) for t in ("90s", "5m", "1.5h", "2")] == [1.5, 5.0, 90.0, 2.0]


def test_resolved_file_round_trip(tmp_path: Path) -> None:
    first = resolve({"data": "d", "seed": 7}, overrides=["probe.flip_tta=off"])
    first = first.with_decisions([Decision("probe.penalty", 0.1, DecisionReason.SET_BY_USER)])
    file = tmp_path / "config.resolved.yaml"
    file.write_text(first.to_yaml())
    rows = yaml.safe_load(file.read_text())
    assert rows["seed"] == {"value": 7, "source": "cli", "reason": None}
    assert rows["max_pixels"]["reason"] is None
    assert rows["probe.penalty"]["source"] == "auto"
    assert set(known_names()) <= set(rows)
    again = merge_settings({}, config_file=file).resolve()
    assert again.settings == first.settings


def test_reasons_are_not_descriptions() -> None:
    resolved = resolve({"data": "d", "resize_mode": "auto", "epochs": 3, "strategy": "head"})
    evidence = {"log_loss": {"crop": 0.4, "squash": 0.3}, "num_compared": 9, "protocol": "leave_one_out"}
    resolved = resolved.with_decisions(
        [
            Decision("resize_mode", "squash", DecisionReason.RESIZE_MODES_COMPARED, evidence=evidence),
            Decision("lr", 0.001, DecisionReason.DEFAULT_FOR_NUM_TRAIN, "default", {"num_train": 30}),
            Decision("epochs", 3, DecisionReason.SET_BY_USER),
        ]
    )
    rows = yaml.safe_load(resolved.to_yaml())
    assert rows["resize_mode"] == {
        "value": "squash", "source": "auto", "reason": "resize_modes_compared", "requested": "auto",
        "evidence": evidence,
        "text": rows["resize_mode"]["text"],
    }  # fmt: skip
    assert (rows["lr"]["value"], rows["lr"]["source"]) == (0.001, "default")
    assert (rows["epochs"]["value"], rows["epochs"]["source"]) == (3, "cli")
    unchosen = {name: row for name, row in rows.items() if name not in ("resize_mode", "lr", "epochs")}
    assert {row["reason"] for row in unchosen.values()} == {None}


def test_explicit_settings_are_kept(tmp_path: Path) -> None:
    first = resolve({"data": "d", "resize_mode": "auto", "epochs": 3, "strategy": "head"})
    values = {"resize_mode": "squash", "epochs": 3, "lr": 0.001}
    chosen = [Decision(name, value, DecisionReason.SET_BY_USER) for name, value in values.items()]
    file = tmp_path / "config.resolved.yaml"
    file.write_text(first.with_decisions(chosen).to_yaml())
    assert merge_settings({}, config_file=file).resolve().settings == first.settings


def test_file_reads_environment_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("data: ${IMAGES_AT}/all\n")
    monkeypatch.setenv("IMAGES_AT", "there")
    assert merge_settings({}, config_file=file).resolve().settings.data == "there/all"
    monkeypatch.delenv("IMAGES_AT")
    with pytest.raises(SettingError, match="IMAGES_AT"):
        merge_settings({}, config_file=file).resolve()


@pytest.mark.parametrize("value", ["5,1", "3,3", "1", "a,b", "nan,1"])
def test_range_must_increase(value: str) -> None:
    with pytest.raises(SettingError, match=r"^`intensity_range` cannot be"):
        resolve({"data": "d", "range": value})
    assert resolve({"data": "d", "range": "1,5"}).settings.intensity_range == (1.0, 5.0)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "\x00"])
def test_invalid_files_raise(tmp_path: Path, text: str) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(text)
    with pytest.raises(SettingError, match=r"s\.yaml"):
        merge_settings({"data": "d"}, config_file=file).resolve()
    with pytest.raises(SettingError, match="cannot read"):
        merge_settings({"data": "d"}, config_file=tmp_path / "none.yaml")
