"""The lungs and the upper abdomen: diaphragm, trees of vessels and bronchi, findings in the lung, organs below."""

import numpy as np

from phantom.atlas import PULMONARY_ARTERIES, PULMONARY_VEINS, Point, TubeTable
from phantom.patient import Patient
from phantom.shapes import Structure, Tubes, Waved, ellipsoid, spline_tube


class Diaphragm:
    """Height of the diaphragm over the plane of y and x. Its lowest parts are the recesses of the lungs."""

    def __init__(self, rng: np.random.Generator):
        self.right = float(-98 + rng.normal(0, 7))
        self.left = float(self.right - rng.uniform(4, 20))
        self.recess = float(-168 + rng.normal(0, 8))

    def height(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Reference height in mm of the diaphragm at reference y, x."""
        right = self.right - 85 * ((x + 62) / 92) ** 2 - 62 * ((y + 8) / 100) ** 2
        left = self.left - 85 * ((x - 68) / 86) ** 2 - 62 * ((y + 4) / 96) ** 2
        middle = -128 - 30 * ((x - 10) / 60) ** 2 - 45 * ((y + 40) / 70) ** 2
        recess = self.recess - 0.30 * np.clip(y, -80, 95) + 8
        height: np.ndarray = np.maximum(np.maximum(right, left), np.maximum(middle, recess)).astype(np.float32)
        return height


def grow_tree(
    rng: np.random.Generator,
    roots: np.ndarray,
    targets: np.ndarray,
    leaf_mm: float,
    largest_mm: float,
    power: float = 2.7,
) -> Tubes:
    """A branching tree from root points [R, 3] to target points [N, 3], both in mm.

    Targets join the tree in order of distance, each at the nearest point. Every branch is bent a little at its middle.
    A branch's r^power is the sum of those it splits into. Leaves have radius `leaf_mm`; none is above `largest_mm`.
    """
    order = np.argsort(((targets[:, None] - roots[None]) ** 2).sum(-1).min(1))
    parent = [-1] * len(roots)
    # The array has its final size from the start and is filled as far as `count`.
    filled = np.empty((len(roots) + 2 * len(targets), 3))
    filled[: len(roots)] = roots
    count = len(roots)
    for target in targets[order]:
        near = int(np.argmin(((filled[:count] - target) ** 2).sum(1)))
        bend = 0.5 * (filled[near] + target) + rng.normal(0, 0.08, 3) * np.linalg.norm(target - filled[near])
        filled[count], filled[count + 1] = bend, target
        parent += [near, count]
        count += 2
    flow = np.zeros(count)
    is_leaf = np.ones(count, dtype=bool)
    for i in range(count - 1, -1, -1):
        if is_leaf[i]:
            flow[i] = 1.0
        if parent[i] >= 0:
            is_leaf[parent[i]] = False
            flow[parent[i]] += flow[i]
    radius = np.minimum(leaf_mm * flow ** (1 / power), largest_mm)
    child = np.array([i for i in range(count) if parent[i] >= 0])
    up = np.array([parent[i] for i in child])
    start_radius = np.minimum(radius[up], radius[child] * 1.25)
    return Tubes(filled[up], filled[child], np.stack([start_radius, radius[child]], axis=1))


def _roots(patient: Patient, table: TubeTable, side: int) -> np.ndarray:
    """The last points [N, 3] (z, y, x) of the pulmonary vessels of one side, -1 for right or 1 for left."""
    points = []
    for control, _ in table.values():
        ends = patient.place(control)[-2:, ::-1]
        points.append(ends[side * ends[:, 2] > 36])
    return np.concatenate(points)


def lung_vessels(patient: Patient, rng: np.random.Generator, targets: dict[int, np.ndarray]) -> list[Structure]:
    """Arteries, veins and bronchi of both lungs. `targets`: points [N, 3] (z, y, x) in each lung, by side."""
    arteries: list[Tubes] = []
    veins: list[Tubes] = []
    bronchi: list[Tubes] = []
    for side, points in targets.items():
        if len(points) < 50:
            continue
        for table, out, n, leaf in ((PULMONARY_ARTERIES, arteries, 330, 0.8), (PULMONARY_VEINS, veins, 260, 0.72)):
            some = points[rng.choice(len(points), min(n, len(points)), replace=False)]
            out.append(grow_tree(rng, _roots(patient, table, side), some, leaf, 5.0))
        seats = patient.place(
            [(-47, 4, -6), (-54, -12, -66), (-48, 36, -90)]
            if side < 0
            else [(60, -6, -20), (60, -6, -20), (50, 38, -85)]
        )[:, ::-1]
        near = points[((points[:, None] - seats[None]) ** 2).sum(-1).min(1) < 42**2]
        if len(near) > 30:
            some = near[rng.choice(len(near), 22, replace=False)]
            bronchi.append(grow_tree(rng, seats, some, 1.0, 3.2))
    hu = patient.hu
    return [
        Structure("lung arteries", hu["pulmonary_artery"], tuple(arteries), solid=False),
        Structure("lung veins", hu["pulmonary_vein"], tuple(veins), solid=False),
        Structure("bronchial walls", 10.0, tuple(b.grown(0.8) for b in bronchi), solid=False),
        Structure("bronchial lumens", -960.0, tuple(bronchi), solid=False),
    ]


def lung_findings(patient: Patient, rng: np.random.Generator, targets: dict[int, np.ndarray]) -> list[Structure]:
    """What could be taken for a node: atelectasis along the lung's border, and lung nodules."""
    out = []
    for side, points in targets.items():
        if len(points) < 50:
            continue
        if rng.random() < 0.55:  # dependent atelectasis is flat and lies behind and below
            low = points[points[:, 0] < np.quantile(points[:, 0], 0.5)]
            for _ in range(int(rng.integers(1, 4))):
                centre = low[np.argsort(low[:, 1])[-int(rng.integers(1, 120))]] + [0, 5, 0]
                radii = (rng.uniform(10, 32), rng.uniform(2.5, 9), rng.uniform(10, 25))
                blob = ellipsoid(centre[::-1], radii, None, 1.5, rng)
                out.append(Structure("atelectasis", float(rng.uniform(-150, 60)), (), (blob,), 25.0, False, 2.0))
        if rng.random() < 0.3:  # atelectasis beside the mediastinum
            medial = points[np.argsort(np.abs(points[:, 2]))[: max(len(points) // 8, 5)]]
            centre = medial[rng.integers(len(medial))] - [0, 0, side * 4]
            blob = ellipsoid(centre[::-1], rng.uniform(4, 14, 3), None, 2.0, rng)
            out.append(Structure("atelectasis", float(rng.uniform(-100, 70)), (), (blob,), 30.0, False, 3.0))
        if rng.random() < 0.3:
            centre = points[rng.integers(len(points))]
            radius = float(np.exp(rng.normal(np.log(7), 0.5)))
            blob = ellipsoid(centre[::-1], np.clip(radius * rng.uniform(0.8, 1.3, 3), 2, 22), None, 0.12 * radius, rng)
            out.append(Structure("lung nodule", float(rng.uniform(10, 80)), (), (blob,), 10.0, False, 1.0))
    return out


def abdomen(patient: Patient, rng: np.random.Generator) -> list[Structure]:
    """Liver, spleen, stomach with air, colon and crura. They are painted only below the diaphragm."""

    def organ(centre: Point, radii: Point, wave: float) -> Waved:
        c = patient.place([centre])[0]
        return ellipsoid(c, np.asarray(radii) * np.asarray(patient.scale), None, wave, rng)

    hu = patient.hu
    filled = float(rng.uniform(15, 90))
    stomach_x = float(rng.uniform(48, 70))
    air_y = float(rng.uniform(-75, -50))
    crura = tuple(
        spline_tube(patient.place([(s * 16, 6, -140), (s * 17, 24, -170), (s * 13, 36, -240)]), [3.5, 4.5, 5], flat=0.7)
        for s in (-1, 1)
    )
    gut = [rng.normal(0, 1, 3) * [18, 10, 12] + [75, -62, -195] for _ in range(4)]
    return [
        Structure(
            "liver",
            hu["liver"],
            (),
            (organ((-52, -8, -196), (124, 126, 112), 2.5), organ((18, -50, -172), (70, 48, 44), 3.0)),
            5.0,
            False,
        ),
        Structure("spleen", hu["spleen"], (), (organ((98, 42, -172), (30, 46, 62), 2.0),), 5.0, False),
        Structure("stomach wall", 65.0, (), (organ((stomach_x, -28, -172), (46, 50, 62), 2.0),), 0.0, False),
        Structure("stomach", filled, (), (organ((stomach_x, -28, -172), (42, 46, 58), 2.0),), 18.0, False),
        Structure("stomach air", -960.0, (), (organ((stomach_x, air_y, -168), (26, 14, 30), 1.0),), 0.0, False),
        Structure(
            "colon",
            -850.0,
            (),
            tuple(organ((g[0], g[1], g[2]), (14, 12, 12), 1.0) for g in gut[: int(rng.integers(0, 5))]),
            0.0,
            False,
        ),
        Structure("crura", hu["muscle"], crura, solid=False),
    ]
