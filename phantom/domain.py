"""The domains of phantoms: what sets them apart from the usual ones. The usual ones stay as they are, seed by seed."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import numpy as np

from phantom.mimics import mimics
from phantom.patient import Patient
from phantom.physics import Scanner
from phantom.shapes import Structure
from phantom.variants import variants

Domain = Literal["usual", "mimics", "shifted"]
"""usual; with what is taken for a node in real CTs, to train on; or unlike all that is trained on, to test on."""
DOMAINS: tuple[Domain, ...] = get_args(Domain)

SHIFTED_SLICES_MM = (0.8, 7.0, 8.0)  # those of the usual domain lie between 1 and 5 mm


def shift_patient(patient: Patient, domain: Domain, rng: np.random.Generator) -> Patient:
    """In the shifted domain, contrast medium late in the vessels, or very dense in the arteries, or none."""
    if domain != "shifted":
        return patient
    hu = dict(patient.hu)
    late, dense = float(rng.uniform(95, 125)), float(rng.uniform(460, 620))
    blood = ("aorta", "pulmonary_artery", "pulmonary_vein", "svc", "ivc", "left_heart", "right_heart", "systemic_vein")
    if patient.phase == "venous":
        hu |= {name: late + float(rng.normal(0, 3)) for name in blood}
        hu["myocardium"] = late - 8.0
    elif patient.phase == "arterial":
        hu |= {name: dense * float(rng.uniform(0.9, 1.05)) for name in ("aorta", "pulmonary_vein", "left_heart")}
    return dataclasses.replace(patient, hu=hu)


def shift_scanner(scanner: Scanner, domain: Domain, rng: np.random.Generator) -> Scanner:
    """In the shifted domain, a kernel that is softer or sharper than any other."""
    soft = rng.random() < 0.5
    blur, overshoot = (float(rng.uniform(0.9, 1.3)), 0.0) if soft else (0.2, float(rng.uniform(0.9, 1.3)))
    noise = float(rng.uniform(6, 12)) if soft else float(rng.uniform(55, 75))
    if domain != "shifted":
        return scanner
    return dataclasses.replace(scanner, blur_mm=blur, overshoot=overshoot, noise_hu=noise)


def slice_mm_of(domain: Domain, drawn_mm: float, rng: np.random.Generator) -> float:
    """Thickness of slices in mm: the one that was drawn, or in the shifted domain one that training never sees."""
    shifted = float(rng.choice(SHIFTED_SLICES_MM))
    return shifted if domain == "shifted" else drawn_mm


def structures_of(
    domain: Domain, patient: Patient, rng: np.random.Generator
) -> tuple[list[Structure], list[Structure]]:
    """What is painted before the usual structures of the mediastinum, and what after."""
    if domain == "mimics":
        return mimics(patient, rng), []
    return [], variants(patient, rng) if domain == "shifted" else []
