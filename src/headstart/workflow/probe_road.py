"""The main road: read, split, embed, fit the head, judge, save - and say each step in plain words."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.backbones.bench import looking_s
from headstart.config import Resolved
from headstart.data.split import write_split
from headstart.data.wording import doctor_lines, health_to_json
from headstart.deploy.bundle import read_bundle
from headstart.deploy.parity import check_parity
from headstart.deploy.runtime import Runtime
from headstart.deploy.writing import amend_bundle, write_bundle
from headstart.errors import DataError
from headstart.heads.probe import ProbeFit, fit_probe
from headstart.records import Decision, Features, Health, Samples, Split
from headstart.talk import Talk
from headstart.tuning.safety import refuse_tuned
from headstart.workflow.calibrating import scale_classes
from headstart.workflow.class_weights import class_factors
from headstart.workflow.data_doctor import DataDoctor
from headstart.workflow.embedding import Embedder, open_as_set
from headstart.workflow.fit_choice import choose_fit, count_choice
from headstart.workflow.headline import closing_lines, decision_line, explain, name_files
from headstart.workflow.judgement import Judgement, judge, with_leaking
from headstart.workflow.reporting import report_run
from headstart.workflow.run_folder import (
    environment,
    finish_run_folder,
    make_run_folder,
    own_run_folder,
    write_json,
    write_oof,
    write_predictions,
    write_scores,
)
from headstart.workflow.splitting import ReadSamples, check_classes, part, read_samples, without_classes
from headstart.workflow.suspecting import correct_labels, write_suspects
from headstart.workflow.trusting import Trust, trust_probe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["FoundProbe", "ProbeRoad", "close_road", "find_probe", "finish_probe", "read_samples", "train_probe"]

_NOTHING = 0.02  # logits that differ by less from picture to picture are the same answer


@dataclass
class ProbeRoad:
    """What one pass along the road made; `duration_s` grows as it goes."""

    resolved: Resolved
    talk: Talk
    folder: Path
    duration_s: dict[str, float] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)  # where each picture lies, by name: for the report

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Adds the seconds of a step under its name."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.duration_s[what] = self.duration_s.get(what, 0.0) + time.monotonic() - started

    def decide(self, decisions: tuple[Decision, ...] | list[Decision]) -> None:
        """Keeps decisions and says the automatic ones with their reasons."""
        self.resolved = self.resolved.with_decisions(decisions)
        for d in decisions:
            self.talk.say(decision_line(d))


@dataclass(frozen=True)
class FoundProbe:
    """A fitted head with all it was fitted on; the features are averaged over the mirror image where `has_mirror`.

    `leaking` are scored pictures of the person's own split that training has seen: not among the samples.
    """

    embedder: Embedder
    samples: Samples
    features: Features
    split: Split
    fit: ProbeFit
    has_mirror: bool
    health: Health
    leaking: Samples
    leaking_features: Features


def train_probe(resolved: Resolved, talk: Talk, *, started: float | None = None) -> Path:
    """Trains a new head on a frozen backbone and writes the run.

    Args:
        resolved: The settings.
        talk: Told what happens.
        started: `time.monotonic()` when the command began.

    Returns:
        The run folder.

    Raises:
        DataError: The pictures do not allow an honest model.
        HeadstartError: Anything else that is known to go wrong.
    """
    started = time.monotonic() if started is None else started
    settings = resolved.settings
    data = read_samples(settings)
    road = ProbeRoad(resolved, talk, make_run_folder(settings.out))
    road.duration_s["read"] = time.monotonic() - started
    with own_run_folder(road.folder):
        _go(road, data, started)
    return road.folder


def _go(road: ProbeRoad, data: ReadSamples, started: float) -> None:
    """Everything after reading."""
    found = find_probe(road, data, started)
    if road.resolved.settings.strategy == "auto":
        road.talk.say(
            "More time could buy more: `--budget 5m` also tries to train the last stages of the network, and keeps the "
            "result only where it is measurably better."
        )
    finish_probe(road, found, started)


def find_probe(road: ProbeRoad, data: ReadSamples, started: float) -> FoundProbe:
    """From samples to a fitted head: embeds, judges the data, splits, fits; says what it does."""
    settings, talk = road.resolved.settings, road.talk
    talk.say(data.samples.sentence)
    for note in data.samples.notes:
        talk.say(f"  {note}")

    samples = correct_labels(without_classes(data.samples, settings.skip_class), settings.corrections, talk)
    doctor = DataDoctor(
        samples,
        talk,
        place=settings.data,
        value_range=settings.value_range,
        max_pixels=settings.max_pixels,
        threads=settings.workers,
        use_memory=settings.cache,
    )
    with road.timed("prepare"):
        value_range, decision = doctor.find_range(is_split_later=settings.test_size is not None)
        road.decide([] if decision is None else [decision])
        choice = None
        if settings.fit == "auto":
            choice = choose_fit(
                samples,
                lambda fit: open_as_set(settings, talk, value_range=value_range, fit=fit),
                talk,
                group_from=settings.group_from,
                seed=settings.seed,
            )
            road.decide([] if choice is None else [choice.decision])
        fit_to = settings.fit if settings.fit != "auto" else (choice.fit if choice is not None else "crop")
        embedder = open_as_set(settings, talk, value_range=value_range, fit=fit_to)
    features, seconds = _embed(road, embedder, samples, doctor)
    _name_unreadable(samples, features, talk)
    with road.timed("check"):
        health = doctor.judge(features, f"{embedder.graph.digest}-{embedder.spec.digest}")
    for line in doctor_lines(health, is_training=True):
        talk.say(explain(line))
    parted = part(samples, features, health, settings, data.manifest)
    del doctor, features  # what was seen of every picture is large, and fitting needs the room
    road.decide(parted.decisions)
    talk.say(f"split: {parted.split.reason}.")
    check_classes(parted.samples, parted.split)
    with road.timed("heads"):
        fit, features, has_mirror = _fit(
            road, embedder, parted.samples, parted.features, parted.split, seconds, started
        )
        if np.ptp(fit.head.logits(features.blocks), axis=0).max() < _NOTHING:
            talk.warn(
                "nothing could be learnt that holds for left-out pictures: every picture gets the same answer. More "
                "pictures of each class help most; `headstart check` says whether labels or pictures are at fault."
            )
        fit = count_choice(fit, [parted.samples.paths[i] for i in parted.split.where("train")], choice)
    return FoundProbe(
        embedder,
        parted.samples,
        features,
        parted.split,
        fit,
        has_mirror,
        health,
        parted.leaking,
        parted.leaking_features,
    )


def finish_probe(road: ProbeRoad, found: FoundProbe, started: float) -> None:
    """From a fitted head to a whole run: judges, saves, proves."""
    with road.timed("heads"):
        found = _scale_classes(road, found)
    samples, features, split, fit = found.samples, found.features, found.split, found.fit
    with road.timed("judge"):
        judgement = judge(samples, features, split, fit, seed=road.resolved.settings.seed)
        if len(found.leaking):
            leaking = fit.head.logits(_leaking_blocks(road, found))
            judgement = with_leaking(judgement, samples, split, found.leaking, leaking)
    settings = road.resolved.settings
    with road.timed("trust"):
        trust = trust_probe(
            samples, features, split, fit, judgement.logits,
            reject=settings.reject, coverage=settings.coverage, seed=settings.seed,
        )  # fmt: skip
    for line in trust.lines():
        road.talk.say(line)
    with road.timed("bundle"):
        _write_bundle(road, found, judgement, trust)
    with road.timed("parity"):
        parity = _prove(road, samples, judgement, trust)
    _write_run(road, found, judgement, trust, parity, started)
    close_road(road, judgement, started)


def _scale_classes(road: ProbeRoad, found: FoundProbe) -> FoundProbe:
    """With a scale and a shift a class, where that pays; classes that were weighted on purpose stay as they are."""
    settings = road.resolved.settings
    if settings.head.class_weights != "none":
        return found
    train = found.split.where("train")
    groups = None if found.split.groups is None else found.split.groups[train]
    fit, decision = scale_classes(found.fit, found.samples.class_ids[train], groups, seed=settings.seed)
    road.decide([] if decision is None else [decision])
    return replace(found, fit=fit)


def close_road(road: ProbeRoad, judgement: Judgement, started: float) -> None:
    """The report, the closing words, the log, and the mark that the run is whole."""
    shown = report_run(road.folder, road.paths, road.talk, has_pictures=road.resolved.settings.pictures)
    for line in closing_lines(judgement, road.folder, time.monotonic() - started, num_shown=shown):
        road.talk.say(line)
    log = "\n".join(road.talk.lines) + "\n"
    (road.folder / "train.log").write_text(log, encoding="utf-8", errors="surrogateescape")
    finish_run_folder(road.folder)


def _embed(road: ProbeRoad, embedder: Embedder, samples: Samples, doctor: DataDoctor) -> tuple[Features, float]:
    """Features of all pictures, and the seconds a second pass over them would take."""
    height, width = embedder.spec.size_hw
    unknown = len(samples) - embedder.num_known()
    expected = looking_s(embedder.graph.backbone, height, unknown) if unknown > 0 else None
    if expected is not None and expected >= 1:
        road.talk.say(
            f"looking at {unknown:,} pictures takes about {expected:.0f} s, as `headstart models bench` measured here"
        )
    features, computed, seconds = embedder.embed(samples.paths, samples.names, road.talk, onlooker=doctor.looker)
    road.duration_s["features"] = seconds
    found = len(samples) - computed - len(features.problems)
    road.talk.say(
        f"{embedder.graph.backbone} looked at {computed:,} pictures at {width} x {height} pixels in {seconds:.1f} s"
        + (f"; {found:,} were known from before" if found else "")
        + "."
    )
    return features, seconds * len(samples) / computed if computed else 0.0


def _name_unreadable(samples: Samples, features: Features, talk: Talk) -> None:
    if not features.problems:
        return
    lines = name_files(features.problems)
    if not features.is_ok.any():
        raise DataError(
            f"none of the {len(samples):,} pictures can be read:\n" + "\n".join(lines),
            hint="is this the right folder? `headstart check` says more",
        )
    talk.warn(f"{len(features.problems):,} files cannot be read and are left out:")
    for line in lines:
        talk.say(line)


def _fit(
    road: ProbeRoad,
    embedder: Embedder,
    samples: Samples,
    features: Features,
    split: Split,
    second_pass_s: float,
    started: float,
) -> tuple[ProbeFit, Features, bool]:
    """The probe; with features of mirrored pictures averaged in where that was asked for or pays."""
    settings = road.resolved.settings
    train = split.where("train")
    labels = samples.class_ids[train]
    num_classes = len(samples.class_names)
    weights = class_factors(settings.head.class_weights, labels, samples.class_names)
    if weights is not None:
        how = settings.head.class_weights
        said = "each class weighs the same, as was asked" if how == "auto" else "as the file says"
        road.decide([Decision("head.class_weights", how, said, "cli")])

    def fit(of: Features) -> ProbeFit:
        refuse_tuned(of, train)
        return fit_probe(
            {name: block if len(train) == len(block) else block[train] for name, block in of.blocks.items()},
            labels,
            num_classes,
            groups=None if split.groups is None else split.groups[train],
            class_weights=weights,
            seed=settings.seed,
            logistic={"auto": "auto", "on": True, "off": False}[settings.head.logistic],  # type: ignore[arg-type]
        )

    plain = fit(features)
    choice = settings.head.mirror
    if choice == "auto":
        left = (settings.budget_minutes or 0.0) * 60 - (time.monotonic() - started)
        if settings.budget_minutes is None or left < 1.5 * second_pass_s:
            road.decide(
                [
                    *plain.decisions,
                    Decision(
                        "head.mirror",
                        "off",
                        "a second pass over mirrored pictures was not "
                        "paid for: it doubles the time of every prediction (--budget 5m lets it be tried)",
                    ),
                ]
            )
            return plain, features, False
    if choice == "off":
        road.decide(plain.decisions)
        return plain, features, False

    mirrored, _, seconds = embedder.embed(samples.paths, samples.names, road.talk, is_mirrored=True)
    road.duration_s["features"] += seconds
    both = Features(
        blocks={name: np.float32(0.5) * (block + mirrored.blocks[name]) for name, block in features.blocks.items()},
        digests=features.digests,
        problems=features.problems,
        is_ok=features.is_ok,
    )
    averaged = fit(both)
    gain, error = _paired_gain(plain, averaged)
    pays = gain > error
    reason = (
        f"averaging in the mirrored picture changes the out-of-fold log-loss by {-gain:+.4f} (standard error "
        f"{error:.4f}), log-loss being the mean surprise at the right answer"
    )
    if choice == "on" or pays:
        road.decide([*averaged.decisions, Decision("head.mirror", "on", reason, "cli" if choice == "on" else "auto")])
        return averaged, both, True
    road.decide([*plain.decisions, Decision("head.mirror", "off", reason)])
    return plain, features, False


def _paired_gain(a: ProbeFit, b: ProbeFit) -> tuple[float, float]:
    """Mean of (log-loss of a - log-loss of b) picture by picture, and its standard error."""
    difference = a.candidate_losses[-1].astype(np.float64) - b.candidate_losses[-1]
    return float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference)))


def _write_bundle(road: ProbeRoad, found: FoundProbe, judgement: Judgement, trust: Trust) -> None:
    embedder = found.embedder
    write_bundle(
        road.folder / "bundle",
        graph_path=embedder.graph.path,
        graph_meta=embedder.graph.card,
        head=found.fit.head,
        spec=embedder.spec,
        class_names=found.samples.class_names,
        meta={"score": judgement.headline_score(), "strategy": "probe"},
        has_flip=found.has_mirror,
        trained_on=[found.features.digests[i] for i in found.split.where("train")],
        novelty=trust.novelty,
        sets=trust.sets.rule,
    )


def _prove(road: ProbeRoad, samples: Samples, judgement: Judgement, trust: Trust) -> dict[str, Any]:
    """Sends own files through the bundle and compares with the training path; a mismatch fails the run."""
    order = np.random.default_rng(road.resolved.settings.seed).permutation(len(samples))
    runtime = Runtime(read_bundle(road.folder), threads=road.resolved.settings.workers)
    paths = [samples.paths[i] for i in order]
    parity = check_parity(runtime, paths, judgement.logits[order], expected_novelty=trust.shipped[order])
    result = parity.to_json()
    amend_bundle(road.folder / "bundle", parity=result)
    return result


def _leaking_blocks(road: ProbeRoad, found: FoundProbe) -> dict[str, NDArray[np.float32]]:
    """Features of the pictures that leak, averaged over the mirror image as all others are."""
    blocks = found.leaking_features.blocks
    if not found.has_mirror:
        return blocks
    paths, names = found.leaking.paths, found.leaking.names
    mirrored, _, _ = found.embedder.embed(paths, names, road.talk, is_mirrored=True)
    return {name: np.float32(0.5) * (block + mirrored.blocks[name]) for name, block in blocks.items()}


def _write_run(
    road: ProbeRoad, found: FoundProbe, judgement: Judgement, trust: Trust, parity: dict[str, Any], started: float
) -> None:
    samples, features, split, fit = found.samples, found.features, found.split, found.fit
    settings = road.resolved.settings
    train = split.where("train")
    write_split(road.folder / "split.csv", samples, split)
    write_oof(
        road.folder / "oof.npz",
        names=[samples.names[i] for i in train],
        groups=None if split.groups is None else split.groups[train],
        class_ids=samples.class_ids[train],
        logits=fit.oof_logits,
        protocol=fit.protocol,
    )
    write_predictions(road.folder / "predictions.csv", samples, split, judgement, fit, trust)
    write_scores(road.folder / "scores.npz", samples, features, split, judgement, fit, trust)
    write_suspects(road.folder / "suspects.csv", samples, features, split, fit, judgement)
    road.paths = {s.name: s.path for s in (*samples, *found.leaking)}
    write_json(road.folder / "health.json", health_to_json(found.health))
    write_json(road.folder / "environment.json", environment(settings.seed))
    (road.folder / "config.resolved.yaml").write_text(road.resolved.to_yaml(), encoding="utf-8")
    road.duration_s["total"] = time.monotonic() - started
    write_json(
        road.folder / "metrics.json",
        {
            "schema": 1,
            "task": "classify",
            "strategy": "probe",
            "backbone": found.embedder.graph.backbone,
            "num_samples": len(samples),
            "num_groups": None if split.groups is None else len(np.unique(split.groups)),
            "num_classes": len(samples.class_names),
            "class_names": list(samples.class_names),
            "duration_s": {name: round(value, 3) for name, value in road.duration_s.items()},
            "baselines": judgement.baselines,
            **judgement.blocks_json(),
            **trust.json,
            "parity": parity,
        },
    )
