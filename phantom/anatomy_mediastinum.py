"""The mediastinum of one patient: vessels, airways, heart, oesophagus and thymus, as structures in painting order.

Reference coordinates are in mm, with the carina as their origin. x points to the left, y to posterior, z to superior.
"""

import numpy as np
from numpy.typing import ArrayLike

from phantom.atlas import (
    AIRWAYS,
    AORTA,
    AORTA_R,
    ARTERIES,
    AZYGOS,
    OESOPHAGUS,
    PULMONARY_ARTERIES,
    PULMONARY_VEINS,
    SVC,
    VEINS,
    Point,
)
from phantom.nodes import random_rotation
from phantom.patient import Patient
from phantom.shapes import Structure, Tubes, Waved, aligned, ellipsoid, spline_tube, tilted


def tube(
    patient: Patient,
    points: ArrayLike,
    radii: ArrayLike,
    rng: np.random.Generator,
    jitter_mm: float = 1.0,
    flat: float = 1.0,
    width: float = 1.0,
) -> Tubes:
    """A tube of the reference anatomy as it runs in this patient. `width` is a factor on its radii."""
    placed = patient.place(points)
    placed = placed + rng.normal(0, jitter_mm, (len(placed), 3)) * [1, 1, 0.5]
    return spline_tube(placed, np.asarray(radii, dtype=float) * width, flat=flat)


def mediastinal_structures(patient: Patient, rng: np.random.Generator) -> list[Structure]:
    """All structures but nodes, in painting order: later ones lie over earlier ones."""
    return [
        *thymus(patient, rng),
        *small_vessels(patient, rng),
        *heart(patient, rng),
        *veins(patient, rng),
        *pulmonary_vessels(patient, rng),
        *arteries(patient, rng),
        *oesophagus(patient, rng),
        *airways(patient, rng),
    ]


def airways(patient: Patient, rng: np.random.Generator) -> list[Structure]:
    """Trachea and bronchi, walls and lumens."""
    width = rng.normal(1.0, 0.08) * (0.88 if patient.female else 1.0)
    lumen = tuple(
        tube(patient, p, r, rng, 0.4, 1.0 if n != "trachea" else float(rng.uniform(0.9, 1.2)), width)
        for n, (p, r) in AIRWAYS.items()
    )
    wall = tuple(t.grown(float(rng.uniform(1.0, 1.7))) for t in lumen)
    return [
        Structure("airway wall", patient.hu["wall"], wall),
        Structure("airway lumen", float(rng.uniform(-1000, -970)), lumen),
    ]


def arteries(patient: Patient, rng: np.random.Generator) -> list[Structure]:
    """The aorta and its branches, in some patients with plaques."""
    width = patient.crowding * float(np.clip(rng.normal(1.0, 0.09), 0.8, 1.3))
    aorta = tube(patient, AORTA, AORTA_R, rng, 1.2, width=width)
    branches = tuple(tube(patient, p, r, rng, 1.0, width=width) for p, r in ARTERIES.values())
    out = [
        Structure("aorta wall", patient.hu["wall"] + 5, (aorta.grown(0.6), *(b.grown(0.5) for b in branches))),
        Structure("aorta", patient.hu["aorta"], (aorta, *branches)),
    ]
    if rng.random() < 0.35:  # there are calcified plaques in the aorta's wall
        count = int(rng.integers(1, 6))
        picks = rng.integers(10, len(aorta.start) - 5, count)
        plaques = []
        for i in picks:
            side = rng.normal(size=3)
            side /= np.linalg.norm(side)
            centre = aorta.start[i] + side * aorta.radius[i, 0]
            plaques.append(ellipsoid(centre[::-1], rng.uniform(0.8, 2.6, 3)))
        out.append(Structure("plaque", float(rng.uniform(400, 900)), blobs=tuple(plaques)))
    return out


def veins(patient: Patient, rng: np.random.Generator) -> list[Structure]:
    """Systemic veins. Contrast medium was injected on one side, whose veins are bright."""
    width = patient.crowding * float(np.clip(rng.normal(1.0, 0.12), 0.7, 1.3))
    svc = tube(patient, SVC, [10, 9.5, 9, 8.5], rng, 1.2, float(rng.uniform(0.85, 1.25)), width)
    systemic = {n: tube(patient, p, r, rng, 1.2, 1.15, width) for n, (p, r) in VEINS.items()}
    azygos = tube(patient, AZYGOS, [3, 3.2, 3.4, 3.6, 4, 4.2, 4.4, 4.6], rng, 0.8, width=width)
    hemi = tube(patient, [(14, 40, -170), (13, 40, -90), (10, 38, -40), (-6, 30, -32)], [2, 2, 2, 2], rng, 0.8)
    ivc = tube(patient, [(-28, -18, -92), (-26, -8, -118), (-24, 4, -230)], [11.5, 11.5, 11], rng, 1.0)
    hu = patient.hu
    bright_left = rng.random() < 0.4
    in_svc, elsewhere = hu["svc"], hu["systemic_vein"]
    left = tuple(v for n, v in systemic.items() if n.startswith("left"))
    right = tuple(v for n, v in systemic.items() if n.startswith("right"))
    return [
        Structure("hemiazygos", elsewhere, (hemi,)),
        Structure("veins, other side", elsewhere, right if bright_left else left),
        Structure("veins, injected side", in_svc, left if bright_left else right),
        Structure("azygos", elsewhere * 0.7 + in_svc * 0.3, (azygos,)),
        Structure("svc", in_svc, (svc,), texture_hu=10.0 if patient.phase == "arterial" else 0.0),
        Structure("ivc", hu["ivc"], (ivc,)),
    ]


def pulmonary_vessels(patient: Patient, rng: np.random.Generator) -> list[Structure]:
    """Pulmonary veins and arteries as far as the hila."""
    width = patient.crowding * float(np.clip(rng.normal(1.0, 0.08), 0.85, 1.25))
    veins_ = tuple(tube(patient, p, r, rng, 2.0, width=width) for p, r in PULMONARY_VEINS.values())
    arteries_ = tuple(tube(patient, p, r, rng, 0.8, width=width) for p, r in PULMONARY_ARTERIES.values())
    return [
        Structure("pulmonary veins", patient.hu["pulmonary_vein"], veins_),
        Structure("pulmonary arteries", patient.hu["pulmonary_artery"], arteries_),
    ]


def heart(patient: Patient, rng: np.random.Generator) -> list[Structure]:
    """Myocardium, then the blood of the chambers, then the fat of the grooves with the coronary vessels."""
    size = 0.5 * (1 + patient.crowding) * float(np.clip(rng.normal(1.02, 0.07), 0.85, 1.2))

    def blob(
        centre: Point, radii: Point, shrink: float = 0.0, rotation: np.ndarray | None = None, wave: float = 1.2
    ) -> Waved:
        c = patient.place([centre])[0]
        return ellipsoid(c, [max(r * size - shrink, 2) for r in radii], rotation, wave, rng)

    long_axis = aligned(np.array([0.62, -0.62, -0.45]) + rng.normal(0, 0.07, 3))
    flat_axis = aligned(np.array([0.82, -0.38, -0.42]) + rng.normal(0, 0.07, 3))
    lv, rv = ((37, -40, -96), (21, 22, 40)), ((6, -63, -93), (21, 17, 42))
    ra, la = ((-34, -40, -84), (19, 26, 33)), ((2, -9, -61), (34, 17.5, 26))
    wall = float(rng.uniform(8.5, 11.5))  # mm, of the left ventricle
    hu = patient.hu
    appendage = tube(patient, [(26, -14, -52), (38, -28, -46), (42, -42, -40)], [9, 8, 5], rng)
    r_appendage = tube(patient, [(-34, -48, -66), (-26, -62, -52), (-14, -68, -44)], [11, 9, 5], rng)
    rvot = tube(patient, [(10, -70, -88), (15, -69, -70), (18, -65, -55)], [16, 15, 13], rng)
    # Fat with the coronary vessels lies in the grooves between the chambers.
    grooves = [
        [(14, -62, -60), (30, -68, -80), (48, -76, -118)],
        [(-8, -64, -58), (-24, -74, -78), (-20, -66, -118)],
        [(22, -30, -56), (40, -10, -74), (44, -8, -98)],
    ]
    coronaries = tuple(tube(patient, g, [1.8, 1.5, 1.1], rng, 1.5) for g in grooves)
    fat = tuple(tube(patient, g, [4.5, 4.5, 2.5], rng, 0.5) for g in grooves)
    return [
        Structure("heart", hu["myocardium"], (), (blob((10, -44, -90), (46, 38, 36), 0.0),)),
        Structure("right atrium", hu["right_heart"], (r_appendage,), (blob(*ra),), 8.0),
        Structure("right ventricle wall", hu["myocardium"], (rvot.grown(1.5),), (blob(*rv, -3.5, flat_axis),)),
        Structure("left ventricle wall", hu["myocardium"], (), (blob(*lv, -wall, long_axis),)),
        Structure("right ventricle", hu["right_heart"], (rvot,), (blob(*rv, 0.0, flat_axis, 2.0),), 8.0),
        Structure("left ventricle", hu["left_heart"], (), (blob(*lv, 0.0, long_axis, 1.8),), 4.0),
        Structure("left atrium", hu["left_heart"], (appendage,), (blob(*la),)),
        Structure("groove fat", hu["fat"] + 10, fat, edge_mm=1.0),
        Structure("coronaries", hu["aorta"], coronaries),
    ]


def oesophagus(patient: Patient, rng: np.random.Generator) -> list[Structure]:
    """The oesophagus, in most patients with air in some part of it."""
    radii = rng.uniform(5.0, 8.5, len(OESOPHAGUS))
    outer = tube(patient, OESOPHAGUS, radii, rng, 1.2, float(rng.uniform(1.05, 1.6)))
    out = [Structure("oesophagus", patient.hu["muscle"] + float(rng.uniform(-12, 10)), (outer,), texture_hu=6.0)]
    if rng.random() < 0.6:
        first, last = sorted(rng.integers(0, len(outer.start), 2))
        if last - first > 2:
            shift = rng.normal(0, 0.6, 3)
            keep = slice(first, last)
            inner = Tubes(outer.start[keep] + shift, outer.end[keep] + shift, outer.radius[keep] * 0.38, outer.flat)
            out.append(Structure("oesophageal air", float(rng.uniform(-900, -400)), (inner,)))
    return out


def thymus(patient: Patient, rng: np.random.Generator) -> list[Structure]:
    """What is left of the thymus between sternum and great vessels: streaks of tissue in fat, in most patients."""
    out = []
    if rng.random() < 0.75:
        hu = float(rng.uniform(-75, 10))
        for side in (-1, 1):
            centre = patient.place([(4 + side * rng.uniform(6, 12), -64 + rng.normal(0, 2), 10 + rng.normal(0, 8))])[0]
            radii = (rng.uniform(4, 9), rng.uniform(3, 7), rng.uniform(14, 26))
            lobe = ellipsoid(centre, radii, tilted(rng.normal(0, 0.15), side * 0.5), 1.2, rng)
            out.append(Structure("thymus", hu, (), (lobe,), 28.0, solid=False, edge_mm=1.5))
    return out


def small_vessels(patient: Patient, rng: np.random.Generator) -> list[Structure]:
    """Thin vessels that cross the fat: the internal mammary ones, and short branches of any direction."""
    mammary = []
    for s in (-1, 1):
        path = [(s * 28, -52, 62), (s * 27, -72, 30), (s * 26, -84, -10), (s * 27, -94, -60), (s * 30, -98, -100)]
        mammary.append(tube(patient, path, [1.4] * 5, rng))
    thin = []
    seats = [(0, -64, 15), (12, -12, 25), (-20, -20, 20), (2, 12, -20), (36, -20, 10), (20, -55, 40), (-5, 14, -50)]
    for _ in range(int(rng.integers(14, 30))):
        seat = np.array(seats[rng.integers(len(seats))]) + rng.normal(0, 9, 3)
        direction = random_rotation(rng)[0] * rng.uniform(12, 30)
        bend = rng.normal(0, 4, 3)
        r = rng.uniform(0.5, 1.5)
        thin.append(tube(patient, [seat - direction, seat + bend, seat + direction], [r, r, 0.8 * r], rng))
    arterial = 0.5 * patient.hu["aorta"] + 20
    return [
        Structure("mammary vessels", patient.hu["aorta"] * 0.9, tuple(mammary), solid=False),
        Structure("thin vessels", min(arterial, 160.0), tuple(thin[::2]), solid=False),
        Structure("thin veins", min(patient.hu["systemic_vein"], 140.0), tuple(thin[1::2]), solid=False),
    ]
