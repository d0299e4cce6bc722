"""Spine, shoulder girdle, neck and shoulder muscles of one patient, as structures in painting order."""

import numpy as np

from phantom.anatomy_mediastinum import _axes
from phantom.patient import Patient
from phantom.shapes import Structure, Tubes, Waved, ellipsoid, spline_tube

VERTEBRA_STEP_MM = 23.5


def _front_of_spine(z: float) -> float:
    """y of the vertebral bodies' centre: the thoracic curve."""
    return 46.0 - 0.0011 * (z - 0.0) ** 2 + (0.02 * z if z > 0 else 0.0) + (0.0006 * z * z if z < 0 else 0.0)


def spine(patient: Patient, rng: np.random.Generator) -> list[Structure]:
    """Vertebrae and discs, arches, processes, canal with fat and cord."""
    heights = np.arange(165.0, -260.0, -VERTEBRA_STEP_MM) + rng.uniform(-8, 8)
    width, depth = rng.normal(1, 0.05, 2)
    cortical, cancellous = patient.hu["cortical"], patient.hu["cancellous"]
    shell: list[Tubes] = []
    core: list[Tubes] = []
    disc: list[Tubes] = []
    arch: list[Tubes] = []
    canal: list[Tubes] = []
    muscle: list[Tubes] = []
    for z in heights:
        grow = 1.0 - 0.0012 * (z + 40)  # larger downwards
        y = _front_of_spine(z)
        r = 14.5 * grow * depth

        def bar(points, radii, flat=1.0):
            return spline_tube(patient.place(points), radii, step_mm=8, flat=flat)

        half = 7.5 * grow * width
        row = [(-half, y, z), (half, y, z)]
        for dz in (-6.0, 0.0, 6.0):
            level = [(a, b, c + dz) for a, b, c in row]
            shell.append(bar(level, [r, r]))
            core.append(bar(level, [r - 1.2, r - 1.2]))
        disc.append(bar([(a, b, c - VERTEBRA_STEP_MM / 2) for a, b, c in row], [r - 0.8, r - 0.8]))
        back = y + r + 8.5
        for s in (-1, 1):
            arch.append(bar([(s * 12, y + r - 3, z + 3), (s * 13, back + 2, z + 2)], [3.6, 3.6]))  # pedicle
            arch.append(bar([(s * 13, back + 2, z + 2), (s * 2, back + 12, z - 4)], [3.6, 3.4]))  # lamina
            arch.append(bar([(s * 13, back + 2, z + 2), (s * 33, back + 8, z + 5)], [4.2, 3.4]))  # transverse process
            arch.append(bar([(s * 15, y + r + 1, z + 1), (s * 24, y + r + 8, z + 3)], [4.0, 4.6]))  # rib's neck
        arch.append(bar([(0, back + 12, z - 4), (0, back + 33, z - 18)], [2.8, 3.4]))  # spinous process
        canal.append(bar([(0, back, z + 12), (0, back, z - 12)], [8.6, 8.6]))
        for s in (-1, 1):
            m = patient.muscle
            muscle.append(bar([(s * 19, back + 19, z + 12), (s * 19, back + 19, z - 12)], [11.5 * m, 11.5 * m]))
            muscle.append(bar([(s * 37, back + 18, z + 12), (s * 37, back + 18, z - 12)], [8.5 * m, 8.5 * m], 1.1))
    cord = tuple(Tubes(t.start, t.end, t.radius * 0.45) for t in canal)
    thin = tuple(t.grown(-1.4) for t in arch)
    hu = patient.hu
    return [
        Structure("erector spinae", hu["muscle"] - 4, tuple(muscle), texture_hu=14.0, solid=False),
        Structure("discs", 85.0, tuple(disc)),
        Structure("vertebral cortex", cortical * 0.75, (*shell, *arch)),
        Structure("vertebral core", cancellous, tuple(core), texture_hu=38.0),
        Structure("arch core", cancellous * 1.4, thin, texture_hu=60.0),
        Structure("canal", 12.0, tuple(canal)),
        Structure("cord", 42.0, cord, solid=False),
    ]


def shoulders(patient: Patient, rng: np.random.Generator) -> list[Structure]:
    """Clavicles, scapulae, humeri with arms up, their muscles, neck muscles and thyroid."""
    muscles: list[Tubes] = []
    blobs: list[Waved] = []
    bones: list[Tubes] = []
    plates: list[Waved] = []
    m = patient.muscle
    for s in (-1, 1):

        def line(points, radii, flat=1.0, s=s):
            p = patient.place([(s * a, b, c) for a, b, c in points]) + rng.normal(0, 1.2, (len(points), 3))
            return spline_tube(p, np.asarray(radii, dtype=float), step_mm=8, flat=flat)

        def sheet(centre, radii, turn, tilt=0.0, s=s):
            c = patient.place([(s * centre[0], centre[1], centre[2])])[0]
            return ellipsoid(c, radii, _axes(tilt, 0.0, 0.0) @ _turn(s * turn), 1.0, rng)

        bones += [
            line([(16, -66, 62), (50, -52, 80), (95, -34, 100), (135, -8, 118)], [8, 5.5, 5.5, 6.5]),
            line([(158, 12, 112), (166, 8, 124)], [22, 21]),
            line([(166, 8, 124), (186, -6, 215)], [14, 11.5]),
            line([(122, 22, 104), (134, 18, 100)], [13, 14]),
            line([(136, 22, 92), (120, 50, 20), (104, 78, -45)], [6, 5, 4]),
            line([(84, 92, 72), (112, 78, 92), (142, 44, 122)], [3.6, 4.6, 6]),
        ]
        plates.append(sheet((104, 74, 25), (38, 2.6, 68), 0.62, 0.12))
        blobs += [
            sheet((99, 64, 25), (36, 8.5 * m, 62), 0.62, 0.12),  # subscapularis
            sheet((112, 86, 20), (36, 10 * m, 58), 0.62, 0.12),  # infraspinatus
            sheet((104, 72, 100), (34, 13 * m, 18), 0.5),  # supraspinatus
        ]
        muscles += [
            line(
                [(108, 80, -45), (132, 48, 0), (150, 28, 60), (165, 12, 130)], [9 * m, 14 * m, 15 * m, 10 * m], 1.1
            ),  # teres, latissimus
            line(
                [(62, -72, 30), (105, -52, 60), (150, -22, 100), (175, -8, 150)], [5 * m, 9 * m, 11 * m, 8 * m], 1.5
            ),  # pectoralis
            line([(150, 40, 118), (178, 14, 130), (192, 0, 175)], [15 * m, 20 * m, 15 * m]),  # deltoid
            line([(165, -14, 122), (184, -22, 205)], [13 * m, 15 * m]),  # biceps
            line([(150, 34, 110), (184, 16, 205)], [14 * m, 17 * m]),  # triceps
            line([(26, 88, 60), (50, 84, 96), (92, 62, 124), (60, 50, 160)], [6, 9 * m, 11 * m, 9], 1.3),  # trapezius
            line([(20, -56, 70), (30, -44, 105), (44, -18, 160)], [5, 8, 9], 1.3),  # sternocleidomastoid
            line([(40, 8, 92), (34, 6, 125), (28, 10, 160)], [9, 10, 9]),  # scalenes
            line([(48, 30, 100), (42, 34, 160)], [10, 12]),  # levator scapulae
            line([(16, 78, 95), (18, 66, 160)], [12, 15]),  # neck extensors
            line([(9, -44, 85), (8, -46, 160)], [4.5, 5], 1.6),  # strap muscles
        ]
    hu = patient.hu
    thyroid = tuple(ellipsoid(patient.place([(s * 16, -34, 112)])[0], (8, 9, 20), None, 1.0, rng) for s in (-1, 1))
    cores = tuple(b.grown(-2.2) for b in bones)
    return [
        Structure("shoulder muscles", hu["muscle"], tuple(muscles), tuple(blobs), texture_hu=10.0, solid=False),
        Structure("thyroid", hu["thyroid"], (), thyroid, texture_hu=8.0),
        Structure("girdle cortex", hu["cortical"], tuple(bones), tuple(plates), solid=False),
        Structure("girdle core", hu["cancellous"] * 0.8, cores, texture_hu=40.0, solid=False),
    ]


def _turn(angle: float) -> np.ndarray:
    """Rotation (z, y, x) about the body's axis."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
