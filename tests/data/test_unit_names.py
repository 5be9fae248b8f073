"""Test that a column which names a subject or capture unit gives groups without proof of similarity."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scenes import encode, samples_of, scan_of, scene

from headstart.data.image_scan import ScanResult
from headstart.data.unit_names import names_unit
from headstart.quality.group_candidates import propose_groups
from headstart.quality.inspection import apply_report, inspect_dataset
from headstart.types.codes import DecisionReason, GroupStatus
from headstart.types.records import Samples


@pytest.mark.parametrize(
    "column",
    [
        *("patient", "Patient ID", "patient_id", "PatientID", "patientid", "PATIENT_ID", "patientId", "id_patient"),
        *("subject", "person", "participant", "lesion_id", "slide", "specimen_no", "case", "case number", "animal_id"),
        *("eye_id", "EyeID", "StudyUID", "Patienten-ID", "Patientennummer", "paciente", "id_paciente", "sujet"),
        *("пациент", "患者", "患者编号", "患者ID", "환자번호"),
    ],
)
def test_units_are_recognized(column: str) -> None:
    assert names_unit(column)


@pytest.mark.parametrize(
    "column",
    [
        *("patient_age", "lesion_type", "case_control", "animal", "eye", "id", "image_id", "name", "code", "grid"),
        *("diagnosis", "site", "rater_id", "user_id", "subject_weight_no", "valid", "showcase", "", "_", "1"),
    ],
)
def test_other_names_are_no_units(column: str) -> None:
    assert not names_unit(column)


def unrelated(column: str, num_groups: int = 12) -> tuple[Samples, ScanResult]:
    """Images of two classes in groups that have nothing to do with the images."""
    rng = np.random.default_rng(0)
    numbers: NDArray[np.int64] = rng.permutation(np.repeat(np.arange(num_groups), 24 // num_groups))
    names = [f"{rng.integers(1 << 40):x}.jpg" for _ in range(24)]
    cells = tuple(f"n{k}" for k in numbers)
    samples = samples_of(names, ["a", "b"] * 12, columns={column: cells})
    return samples, scan_of(samples, [encode(scene(i + 900), quality=85) for i in range(24)])


@pytest.mark.parametrize(
    ("column", "num_groups", "status"),
    [
        ("lesion_id", 12, GroupStatus.APPLIED),
        ("batch", 12, GroupStatus.REJECTED_NO_SIMILARITY),
        ("lesion_id", 3, GroupStatus.QUESTION_TOO_FEW_GROUPS),
    ],
)
def test_a_named_unit_needs_no_similarity(column: str, num_groups: int, status: GroupStatus) -> None:
    samples, scan = unrelated(column, num_groups)
    report = inspect_dataset(samples, scan=scan)
    (pattern,) = (p for p in report.group_patterns if p.pattern == column)
    assert (pattern.status, pattern.num_groups) == (status, num_groups)
    assert (pattern.source == "named") == (pattern.grouping.get("evidence") == "column_name") == (column != "batch")
    applied = apply_report(samples, report)
    (decision,) = (d for d in applied.decisions if d.setting == "group_from")
    is_applied = status is GroupStatus.APPLIED
    assert (decision.reason is DecisionReason.GROUPS_NAMED_BY_COLUMN) == is_applied
    if is_applied:
        assert decision.evidence["grouping"]["evidence"] == "column_name"
        assert applied.groups is not None
        assert len(np.unique(applied.groups)) == num_groups


def test_few_groups_of_several_images_are_enough_for_a_named_unit() -> None:
    cells = tuple("p0" if i < 2 else f"p{i}" for i in range(20))
    names, labels = [f"{i}.jpg" for i in range(20)], ["a", "b"] * 10
    for column, is_proposed in (("patient", True), ("weather", False)):
        samples = samples_of(names, labels, columns={column: cells})
        assert [g.pattern for g in propose_groups(samples)] == [column] * is_proposed
    assert propose_groups(samples_of(names, labels, columns={"patient": tuple(names)})) == []
