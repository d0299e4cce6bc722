from __future__ import annotations

import numpy as np

from phantom.mimics import RECESSES, heart_sac, mimics, pericardium
from phantom.patient import draw_patient


def test_every_kind_of_mimic_occurs_and_none_in_all_patients() -> None:
    names: list[set[str]] = []
    for seed in range(40):
        patient = draw_patient(np.random.default_rng(seed))
        names.append({structure.name for structure in mimics(patient, np.random.default_rng(seed))})
    every = set.union(*names)
    sometimes = {name for name, *_ in RECESSES} | {"large azygos", "thick oesophagus", "thymus of a young patient"}
    assert sometimes <= every
    for name in sometimes:
        assert 2 <= sum(name in one for one in names) <= 34, name
    assert all({"pericardium", "epicardial fat", "intercostal veins"} <= one for one in names)


def test_recesses_hold_fluid() -> None:
    for seed in range(20):
        for structure in mimics(draw_patient(np.random.default_rng(seed)), np.random.default_rng(seed)):
            if structure.name in {name for name, *_ in RECESSES}:
                assert 0 <= structure.hu <= 28


def test_the_pericardium_lies_around_the_fat() -> None:
    patient, rng = draw_patient(np.random.default_rng(3)), np.random.default_rng(3)
    sheet, fat, *_ = pericardium(patient, rng)
    assert (sheet.name, fat.name) == ("pericardium", "epicardial fat") and sheet.hu > 0 > fat.hu
    centre = fat.blobs[0].centre_mm
    widths = []
    for structure in (fat, sheet):
        line = centre + np.arange(0, 90, 0.1)[:, None] * [0.0, 0.0, 1.0]
        widths.append(float(np.argmax(structure.blobs[0].signed_distance(line.astype(np.float32)) > 0)) / 10)
    assert 0 < widths[1] - widths[0] < 9  # both surfaces wave by up to 3.6 mm


def test_a_heart_sac_is_larger_by_what_is_asked() -> None:
    patient = draw_patient(np.random.default_rng(0))
    small, large = (heart_sac(patient, "sac", 0.0, grown, np.random.default_rng(0)).blobs[0] for grown in (0.0, 5.0))
    axes = [1.0 / np.diag(blob.ellipsoid.matrix) for blob in (small, large)]
    np.testing.assert_allclose(axes[1] - axes[0], 5.0)
