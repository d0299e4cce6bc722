"""Spine, shoulder girdle, and muscles of neck and shoulder of one patient, as structures in painting order."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from phantom.patient import Patient
from phantom.shapes import Drum, Structure, Tubes, Waved, ellipsoid, spline_tube, tilted, turned

VERTEBRA_STEP_MM = 23.5
# The thoracic curve: height z, and y of the vertebral bodies' centres, in mm.
SPINE = np.array(
    [
        (-230, 48), (-160, 53), (-80, 55), (-40, 52), (0, 46), (22, 41),
        (45, 35), (65, 30), (87, 25), (110, 20), (160, 12),
    ], dtype=float)  # fmt: skip


class Vertebra:
    """One vertebra at reference height z, the disc below it, and the canal and the back muscles at its height."""

    def __init__(self, patient: Patient, z: float, width: float, depth: float, muscle: float):
        self.patient = patient
        grow = 1.0 - 0.0014 * (z + 40)  # larger downwards
        y = float(np.interp(z, SPINE[:, 0], SPINE[:, 1]))
        ry, rx = 14.5 * grow * depth, 17.0 * grow * width
        back = y + ry + 8.0
        centre = patient.place([(0, y, z)])[0][::-1]
        under = patient.place([(0, y, z - VERTEBRA_STEP_MM / 2)])[0][::-1]
        half = 0.5 * VERTEBRA_STEP_MM * patient.scale[2] - 2.4
        self.shell = Drum(centre, half, (ry, rx), 0.1)
        self.core = Drum(centre, half - 0.7, (ry - 1.2, rx - 1.2), 0.1)
        self.disc = Drum(under, 2.6, (ry + 0.3, rx + 0.3))
        self.canal = self._bar([(0, back, z + 12), (0, back, z - 12)], [8.2, 8.2], 1.1)
        self.arch = self._arch(y + ry, back, z)
        self.muscles = self._muscles(back, z, muscle)

    def _bar(self, points: ArrayLike, radii: ArrayLike, flat: float = 1.0) -> Tubes:
        """A tube through reference points x, y, z."""
        return spline_tube(self.patient.place(points), radii, step_mm=8, flat=flat)

    def _arch(self, edge: float, back: float, z: float) -> list[Tubes]:
        """The vertebra's arch and processes. `edge`: y of the body's back; `back`: y of the canal."""
        arch = [self._bar([(0, back + 9, z - 5), (0, back + 30, z - 20)], [2.6, 3.2])]  # spinous process
        for s in (-1, 1):
            arch += [
                self._bar([(s * 11, edge - 3, z + 4), (s * 12, back + 2, z + 3)], [3.3, 3.3]),  # pedicle
                self._bar([(s * 12, back + 2, z), (s * 2, back + 10, z - 6)], [3.0, 3.0]),  # lamina
                self._bar([(s * 13, back + 2, z + 3), (s * 32, back + 9, z + 5)], [4.2, 3.6]),  # transverse process
                self._bar([(s * 17, edge - 1, z + 10), (s * 30, back + 3, z + 6)], [3.8, 3.6]),  # rib's neck
                self._bar([(s * 11, back + 3, z + 6), (s * 3, back + 9, z + 2)], [2.8, 2.6]),  # upper lamina
            ]
        return arch

    def _muscles(self, back: float, z: float, m: float) -> list[Tubes]:
        """The muscles beside the spinous process, for a bulk of m."""
        out = []
        for s in (-1, 1):
            out.append(self._bar([(s * 8, back + 17, z + 12), (s * 8, back + 17, z - 12)], [6.5 * m, 6.5 * m], 0.8))
            for x, behind, r, flat in ((44, 15, 6.5, 1.3), (16, 16, 12.0, 1.05), (30, 17, 11.0, 1.15)):
                for dz in (-6.0, 6.0):
                    ends = [(s * x, back + behind, z + dz + 6), (s * x, back + behind, z + dz - 6)]
                    out.append(self._bar(ends, [r * m, r * m], flat))
        return out


def spine(patient: Patient, rng: np.random.Generator) -> list[Structure]:
    """Vertebrae with arches and processes, discs, the canal with fat and cord, and the muscles along the spine."""
    heights = np.arange(165.0, -260.0, -VERTEBRA_STEP_MM) + rng.uniform(-8, 8)
    width, depth = rng.normal(1, 0.05, 2)
    hu = patient.hu
    bulk = [patient.muscle * rng.normal(1, 0.04) for _ in heights]
    vertebrae = [Vertebra(patient, z, width, depth, m) for z, m in zip(heights, bulk, strict=True)]
    muscle = tuple(t for v in vertebrae for t in v.muscles)
    canal = tuple(v.canal for v in vertebrae)
    arch = tuple(t for v in vertebrae for t in v.arch)
    cord = tuple(Tubes(t.start, t.end, t.radius * 0.45) for t in canal)
    thin = tuple(t.grown(-1.2) for t in arch)
    return [
        Structure("erector spinae", hu["muscle"] - 4, muscle, texture_hu=14.0, solid=False),
        Structure("canal", 12.0, canal),
        Structure("cord", 42.0, cord, solid=False),
        Structure("discs", 85.0, (), tuple(v.disc for v in vertebrae)),
        Structure("vertebral cortex", hu["cortical"] * 0.5, arch, tuple(v.shell for v in vertebrae)),
        Structure("vertebral core", hu["cancellous"], (), tuple(v.core for v in vertebrae), texture_hu=32.0),
        Structure("arch core", hu["cancellous"] * 1.3, thin, texture_hu=50.0),
    ]


# Bones of the left side: points x, y, z, and radii, in mm.
BONES = (
    ([(16, -66, 62), (50, -52, 80), (95, -34, 100), (135, -8, 118)], [10, 6, 5.5, 6.5]),  # clavicle
    ([(158, 12, 112), (166, 8, 124)], [22, 21]),  # humeral head
    ([(166, 8, 124), (186, -6, 215)], [14, 11.5]),  # humerus
    ([(122, 22, 104), (134, 18, 100)], [13, 14]),  # glenoid
    ([(136, 22, 92), (120, 50, 20), (104, 78, -45)], [6, 5, 4]),  # lateral border of the scapula
    ([(84, 92, 72), (112, 78, 92), (142, 44, 122)], [3.6, 4.6, 6]),  # spine of the scapula
)


def _shoulder_muscles(m: float) -> tuple[tuple[list[tuple[float, float, float]], list[float], float], ...]:
    """Muscles of the left side for a bulk of m: points x, y, z, radii, both in mm, and flatness."""
    arm: list[tuple[float, float, float]] = [(108, 80, -45), (132, 48, 0), (150, 28, 60), (165, 12, 130)]
    chest: list[tuple[float, float, float]] = [(62, -72, 30), (105, -52, 60), (150, -22, 100), (175, -8, 150)]
    return (
        (arm, [9 * m, 14 * m, 15 * m, 10 * m], 1.1),  # teres, latissimus
        (chest, [5 * m, 9 * m, 11 * m, 8 * m], 1.5),  # pectoralis
        ([(150, 40, 118), (178, 14, 130), (192, 0, 175)], [15 * m, 20 * m, 15 * m], 1.0),  # deltoid
        ([(165, -14, 122), (184, -22, 205)], [13 * m, 15 * m], 1.0),  # biceps
        ([(150, 34, 110), (184, 16, 205)], [14 * m, 17 * m], 1.0),  # triceps
        ([(26, 88, 60), (50, 84, 96), (92, 62, 124), (60, 50, 160)], [6, 9 * m, 11 * m, 9], 1.3),  # trapezius
        ([(20, -56, 70), (30, -44, 105), (44, -18, 160)], [5, 8, 9], 1.3),  # sternocleidomastoid
        ([(40, 8, 92), (34, 6, 125), (28, 10, 160)], [9, 10, 9], 1.0),  # scalenes
        ([(48, 30, 100), (42, 34, 160)], [10, 12], 1.0),  # levator scapulae
        ([(16, 78, 95), (18, 66, 160)], [12, 15], 1.0),  # neck extensors
        ([(9, -44, 85), (8, -46, 160)], [4.5, 5], 1.6),  # strap muscles
        ([(9, 24, 40), (9, 12, 90), (9, 2, 160)], [2.5, 5, 6.5], 1.3),  # longus colli
    )


def shoulders(patient: Patient, rng: np.random.Generator) -> list[Structure]:
    """Clavicles, scapulae, humeri of raised arms, their muscles, neck muscles and thyroid."""
    muscles: list[Tubes] = []
    blobs: list[Waved] = []
    bones: list[Tubes] = []
    plates: list[Waved] = []
    m = patient.muscle
    for s in (-1, 1):

        def line(
            points: Sequence[tuple[float, float, float]], radii: ArrayLike, flat: float = 1.0, s: int = s
        ) -> Tubes:
            p = patient.place([(s * a, b, c) for a, b, c in points]) + rng.normal(0, 1.2, (len(points), 3))
            return spline_tube(p, np.asarray(radii, dtype=float), step_mm=8, flat=flat)

        def sheet(
            centre: tuple[float, float, float], radii: ArrayLike, turn: float, tilt: float = 0.0, s: int = s
        ) -> Waved:
            c = patient.place([(s * centre[0], centre[1], centre[2])])[0]
            return ellipsoid(c, radii, tilted(tilt, 0.0) @ turned(-s * turn), 1.0, rng)

        bones += [line(*bone) for bone in BONES]
        plates.append(sheet((104, 76, 25), (40, 2.4, 70), 0.62, 0.12))
        blobs += [
            sheet((99, 67, 25), (38, 9 * m, 66), 0.62, 0.12),  # subscapularis
            sheet((110, 87, 20), (38, 10.5 * m, 62), 0.62, 0.12),  # infraspinatus
            sheet((104, 72, 100), (34, 13 * m, 18), 0.5),  # supraspinatus
        ]
        muscles += [line(*muscle) for muscle in _shoulder_muscles(m)]
    vessels = tuple(_axillary_vessel(patient, rng) for _ in range(44))
    hu = patient.hu
    thyroid = tuple(ellipsoid(patient.place([(s * 16, -34, 112)])[0], (8, 9, 20), None, 1.0, rng) for s in (-1, 1))
    cores = tuple(b.grown(-2.2) for b in bones)
    return [
        Structure("axillary vessels", min(hu["systemic_vein"], 130.0), vessels, solid=False),
        Structure("shoulder muscles", hu["muscle"], tuple(muscles), tuple(blobs), texture_hu=10.0, solid=False),
        Structure("thyroid", hu["thyroid"], (), thyroid, texture_hu=8.0),
        Structure("girdle cortex", hu["cortical"], tuple(bones), tuple(plates), solid=False),
        Structure("girdle core", hu["cancellous"] * 0.8, cores, texture_hu=40.0, solid=False),
    ]


def _axillary_vessel(patient: Patient, rng: np.random.Generator) -> Tubes:
    """Draw a short thin vessel in the fat of one armpit."""
    side = rng.choice([-1, 1])
    seat = np.array([side * rng.uniform(118, 150), rng.uniform(-30, 40), rng.uniform(-20, 95)])
    along = rng.normal(0, 1, 3) * [10, 10, 22]
    r = rng.uniform(0.6, 1.9)
    return spline_tube(patient.place([seat - along, seat + rng.normal(0, 3, 3), seat + along]), [r, r, r])
