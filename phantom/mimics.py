"""What is taken for a node in real CTs: structures of soft tissue or fluid in fat that every chest has, more or less.

They come on top of the usual anatomy, in phantoms of domain "mimics". Reference coordinates as in
`phantom.anatomy_mediastinum`. Each function returns structures in painting order, to be painted before the usual ones.
"""

from __future__ import annotations

import numpy as np

from phantom.anatomy_mediastinum import tube
from phantom.atlas import AZYGOS, Point
from phantom.patient import Patient
from phantom.shapes import Structure, ellipsoid

HEART: tuple[Point, Point] = ((10, -44, -90), (46, 38, 36))  # centre and radii
RECESSES: tuple[tuple[str, float, Point, Point, Point], ...] = (
    # name, how often, centre, smallest and largest radii
    ("superior aortic recess", 0.6, (-14, -33, 0), (8, 3, 6), (15, 6, 14)),
    ("left pulmonic recess", 0.35, (7, -65, -8), (4, 3, 6), (9, 5, 12)),
    ("oblique sinus", 0.4, (5, 9, -48), (8, 2.5, 5), (16, 5, 10)),
    ("pulmonary venous recess", 0.3, (-31, 2, -60), (3, 3, 3), (6, 6, 8)),
    ("cisterna chyli", 0.3, (-2, 33, -188), (2.5, 2.5, 10), (5, 5, 20)),
)


def mimics(patient: Patient, rng: np.random.Generator) -> list[Structure]:
    """All of them, as this patient has them."""
    return [
        *pericardium(patient, rng),
        *recesses(patient, rng),
        *veins_in_fat(patient, rng),
        *large_azygos(patient, rng),
        *thick_organs(patient, rng),
    ]


def heart_sac(
    patient: Patient, name: str, hu: float, grown_mm: float, rng: np.random.Generator, texture_hu: float = 0.0
) -> Structure:
    """An ellipsoid around the heart whose radii are larger by `grown_mm`."""
    size = 0.5 * (1 + patient.crowding) * 1.02
    centre = patient.place([HEART[0]])[0]
    radii = [radius * size + grown_mm for radius in HEART[1]]
    return Structure(name, hu, (), (ellipsoid(centre, radii, None, 1.5, rng),), texture_hu)


def pericardium(patient: Patient, rng: np.random.Generator) -> list[Structure]:
    """Fat on the heart within a thin sheet, with coronary vessels in it, and fat around the right appendage."""
    fat_mm = float(np.clip(2.0 + 3.0 * patient.fatness * rng.uniform(0.5, 1.5), 2.0, 11.0))
    hu = patient.hu
    ways = [
        [(-14, -70, -60), (-34, -66, -86), (-30, -54, -120)],
        [(22, -78, -66), (40, -74, -96), (46, -60, -122)],
        [(52, -34, -70), (58, -38, -96), (52, -40, -120)],
    ]
    coronaries = tuple(tube(patient, way, [1.6, 1.4, 1.0], rng, 3.0) for way in ways)
    appendage = tube(patient, [(-34, -48, -66), (-26, -62, -52), (-14, -68, -44)], [14, 12, 8], rng)
    return [
        heart_sac(patient, "pericardium", 35.0, fat_mm + float(rng.uniform(1.0, 2.2)), rng),
        heart_sac(patient, "epicardial fat", hu["fat"] + 8.0, fat_mm, rng, 6.0),
        Structure("fat of the right appendage", hu["fat"] + 8.0, (appendage,), texture_hu=6.0, edge_mm=1.0),
        Structure("epicardial vessels", hu["aorta"], coronaries),
    ]


def recesses(patient: Patient, rng: np.random.Generator) -> list[Structure]:
    """Fluid in the recesses of the pericardium and in the cisterna chyli."""
    found = []
    for name, share, centre, low, high in RECESSES:
        here = rng.random() < share
        shift = rng.normal(0, 2.0, 3)
        radii = rng.uniform(low, high)
        hu = float(rng.uniform(0, 28))
        blob = ellipsoid(patient.place([np.array(centre) + shift])[0], radii, None, 0.8, rng)
        if here:
            found.append(Structure(name, hu, (), (blob,)))
    return found


def veins_in_fat(patient: Patient, rng: np.random.Generator) -> list[Structure]:
    """Intercostal veins in the fat beside the spine, and the vessels that run along the heart's sides."""
    veins = []
    for z in np.arange(-150, 20, 24) + rng.normal(0, 4):
        for side, start in ((-1, (-9, 27)), (1, (13, 39))):
            way = [(start[0], start[1], z), (side * 23, 40, z - 3), (side * 36, 52, z - 7)]
            veins.append(tube(patient, way, [rng.uniform(1.2, 2.6)] * 3, rng, 1.5))
    along = [
        tube(
            patient, [(s * 40, -26, 6), (s * 50, -30, -60), (s * 56, -36, -112)], [rng.uniform(0.8, 1.8)] * 3, rng, 3.0
        )
        for s in (-1, 1)
    ]
    hu = patient.hu
    return [
        Structure("intercostal veins", hu["systemic_vein"], tuple(veins), solid=False),
        Structure("pericardiacophrenic vessels", min(hu["aorta"], 180.0), tuple(along), solid=False),
    ]


def large_azygos(patient: Patient, rng: np.random.Generator) -> list[Structure]:
    """An azygos vein and arch that are wider than usual, in a third of the patients."""
    wider = float(rng.uniform(1.25, 1.9))
    vein = tube(patient, AZYGOS, np.array([3, 3.2, 3.4, 3.6, 4, 4.2, 4.4, 4.6]) * wider, rng, 0.8)
    if rng.random() > 0.35:
        return []
    return [Structure("large azygos", patient.hu["systemic_vein"] * 0.7 + patient.hu["svc"] * 0.3, (vein,))]


def thick_organs(patient: Patient, rng: np.random.Generator) -> list[Structure]:
    """A thick lower oesophagus and, in some patients, a thymus that has not shrunk."""
    found = []
    junction = tube(patient, [(10, 15, -105), (18, 4, -135), (28, -8, -158)], rng.uniform(8, 13, 3), rng, 1.5, 1.2)
    if rng.random() < 0.4:
        found.append(Structure("thick oesophagus", patient.hu["muscle"] - 8.0, (junction,), texture_hu=6.0))
    young = rng.random() < 0.2
    hu = float(rng.uniform(20, 60))
    for side in (-1, 1):
        centre = patient.place([(4 + side * rng.uniform(5, 10), -66 + rng.normal(0, 2), 8 + rng.normal(0, 6))])[0]
        lobe = ellipsoid(centre, (rng.uniform(7, 13), rng.uniform(4, 9), rng.uniform(18, 30)), None, 1.5, rng)
        if young:
            found.append(Structure("thymus of a young patient", hu, (), (lobe,), 10.0, edge_mm=1.0))
    return found
