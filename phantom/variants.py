"""Anatomy that training never sees: variants and diseases of the mediastinum, for phantoms of domain "shifted".

Reference coordinates as in `phantom.anatomy_mediastinum`. They are painted over the usual anatomy.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from phantom.anatomy_mediastinum import tube
from phantom.atlas import AORTA, AORTA_R, AZYGOS
from phantom.patient import Patient
from phantom.shapes import Structure, ellipsoid

Maker = Callable[[Patient, np.random.Generator], list[Structure]]


def left_svc(patient: Patient, rng: np.random.Generator) -> list[Structure]:
    """A persistent left superior vena cava, from the left brachiocephalic vein to the coronary sinus."""
    way = [(38, -44, 66), (39, -32, 24), (44, -26, -12), (42, -16, -44), (28, 0, -68)]
    vein = tube(patient, way, [6.5, 6.5, 6, 6, 6], rng, 1.0)
    return [Structure("left svc", patient.hu["systemic_vein"], (vein,))]


def aberrant_subclavian(patient: Patient, rng: np.random.Generator) -> list[Structure]:
    """A right subclavian artery that leaves the arch last and crosses behind the oesophagus."""
    way = [(22, 10, 28), (6, 26, 34), (-14, 14, 54), (-36, -12, 84)]
    return [Structure("aberrant subclavian artery", patient.hu["aorta"], (tube(patient, way, [6, 5, 5, 4.5], rng),))]


def azygos_continuation(patient: Patient, rng: np.random.Generator) -> list[Structure]:
    """An azygos vein as wide as a vena cava, which it stands in for."""
    vein = tube(patient, AZYGOS, rng.uniform(7.5, 9.5, len(AZYGOS)), rng, 0.8)
    return [Structure("azygos continuation", patient.hu["ivc"], (vein,))]


def aneurysm(patient: Patient, rng: np.random.Generator) -> list[Structure]:
    """An ascending aorta of 44 to 54 mm."""
    wide = np.minimum(np.array(AORTA_R[:4]) * 1.9, rng.uniform(22, 27))
    return [Structure("aneurysm", patient.hu["aorta"], (tube(patient, AORTA[:4], wide, rng),))]


def hiatal_hernia(patient: Patient, rng: np.random.Generator) -> list[Structure]:
    """A part of the stomach behind the heart, with fluid and in half of the cases air."""
    centre = patient.place([(6 + rng.normal(0, 3), 16, -112 + rng.normal(0, 6))])[0]
    radii = rng.uniform((18, 13, 18), (28, 19, 28))
    found = [
        Structure("hernia's wall", 55.0, (), (ellipsoid(centre, radii, None, 1.5, rng),)),
        Structure("hernia", float(rng.uniform(5, 40)), (), (ellipsoid(centre, radii - 3.5, None, 1.5, rng),), 12.0),
    ]
    if rng.random() < 0.5:
        bubble = ellipsoid(centre - [0, 5, 0], radii * 0.45)
        found.append(Structure("hernia's air", -950.0, (), (bubble,)))
    return found


def goitre(patient: Patient, rng: np.random.Generator) -> list[Structure]:
    """A thyroid that reaches behind the sternum on one side of the trachea."""
    side = 1 if rng.random() < 0.5 else -1
    centre = patient.place([(side * 19, -27, 66)])[0]
    lobe = ellipsoid(centre, rng.uniform((10, 10, 18), (14, 14, 28)), None, 1.5, rng)
    return [Structure("goitre", patient.hu["thyroid"] * 0.8, (), (lobe,), 22.0)]


VARIANTS: tuple[Maker, ...] = (left_svc, aberrant_subclavian, azygos_continuation, aneurysm, hiatal_hernia, goitre)


def variants(patient: Patient, rng: np.random.Generator) -> list[Structure]:
    """Two or three of the variants, in painting order."""
    chosen = rng.choice(len(VARIANTS), int(rng.integers(2, 4)), replace=False)
    return [structure for index in sorted(chosen) for structure in VARIANTS[index](patient, rng)]
