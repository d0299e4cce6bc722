"""Chest wall, spine and skin of one patient, painted slice by slice.

The wall is described in (angle, depth): depth is the distance in mm outside the inner surface of the chest, angle
goes round the body; each rib and muscle sheet is a band of depths per angle, so a slice costs a few table look-ups.
"""

from dataclasses import dataclass

import numpy as np

from phantom.patient import Patient
from phantom.shapes import Texture

ANGLES = 720
# inner surface of the chest at reference heights z: half width, front, back (mm from the axis x = 0, y = 0)
INNER = np.array(
    [
        (-260, 138, 102, 96), (-180, 140, 108, 97), (-125, 138, 112, 96), (-100, 134, 111, 96), (-70, 128, 109, 95),
        (-40, 122, 103, 94), (-20, 119, 96, 92), (0, 116, 88, 88), (25, 111, 78, 80), (45, 103, 60, 70),
        (62, 88, 42, 61), (78, 68, 26, 52), (92, 44, 8, 42), (104, 20, 2, 30), (112, 4, 2, 6), (200, 4, 2, 6),
    ], dtype=float)  # fmt: skip
# skin where arms and shoulders, not the rib cage, decide it
OUTER = np.array(
    [
        (-260, 150, 112, 104), (-100, 158, 120, 108), (-40, 170, 116, 110), (0, 182, 106, 108), (30, 190, 96, 104),
        (60, 202, 86, 98), (85, 208, 74, 88), (105, 190, 64, 82), (125, 120, 70, 80), (150, 64, 72, 72), (220, 62, 72, 70),
    ], dtype=float)  # fmt: skip
RIB_TOP_MM, RIB_STEP_MM = 95.0, 23.5  # height of the first rib at the spine, and from rib to rib


@dataclass(frozen=True, eq=False)
class Wall:
    """Tables [ANGLES] of one slice, and what lies where."""

    inner: np.ndarray
    skin: np.ndarray
    slope: np.ndarray
    ribs: tuple[np.ndarray, np.ndarray, np.ndarray]  # centre depth, half thickness, share of cartilage
    sheets: tuple[tuple[np.ndarray, np.ndarray], ...]  # muscle: depth from, to


class Body:
    """Draws its shape once; `paint_slice` paints a slice of it."""

    def __init__(self, patient: Patient, rng: np.random.Generator):
        self.patient = patient
        self.theta = (np.arange(ANGLES) + 0.5) * 2 * np.pi / ANGLES - np.pi
        self.from_front = np.abs((self.theta + 1.5 * np.pi) % (2 * np.pi) - np.pi)  # 0 front .. pi back
        self.exponent = float(rng.uniform(2.05, 2.5))
        self.harmonics = rng.normal(0, 0.008, (2, 4))
        self.rib_half_height = float(rng.uniform(5.0, 6.6))
        self.rib_half_thickness = float(rng.uniform(3.5, 4.6))
        self.rib_shift = float(rng.normal(0, 4))
        self.rib_drop = float(rng.normal(1.0, 0.1))
        self.muscle = patient.muscle
        self.fat_front = patient.subcutaneous_fat_mm * float(rng.uniform(0.6, 1.0))
        self.fat_back = patient.subcutaneous_fat_mm * float(rng.uniform(0.8, 1.3))
        self.side = rng.normal(1.0, 0.06, 6)  # left-right asymmetry of the sheets
        self.sheet_waves = np.stack([rng.integers(5, 16, 8), rng.uniform(-0.2, 0.2, 8), rng.uniform(0, 6.3, 8)])
        self.cartilage_hu = float(rng.uniform(75, 130))
        self.girth = float(0.93 + 0.05 * (patient.muscle - 1) + rng.normal(0, 0.015))
        self.calcified = bool(rng.random() < 0.35)
        self.breast_mm = float(rng.uniform(15, 55)) if patient.female else float(rng.uniform(0, 8))
        self.gland_hu = float(rng.uniform(0, 50))
        self.table = (float(rng.uniform(6, 25)), float(rng.uniform(900, 2400)), float(rng.uniform(25, 60)))

    def _superellipse(self, table: np.ndarray, z: float) -> np.ndarray:
        width, front, back = (np.interp(z, table[:, 0], table[:, i]) for i in (1, 2, 3))
        c, s = np.abs(np.cos(self.theta)), np.abs(np.sin(self.theta))
        depth = np.where(np.sin(self.theta) < 0, front, back)
        n = self.exponent
        return ((c / max(width, 1)) ** n + (s / np.maximum(depth, 1)) ** n) ** (-1 / n)

    def inner_radius(self, z: float) -> np.ndarray:
        """Radius [ANGLES] of the inner surface of the chest at reference height z."""
        radius = self._superellipse(INNER, z)
        k = np.arange(2, 6)[:, None]
        waves = (
            self.harmonics[0][:, None] * np.cos(k * self.theta) + self.harmonics[1][:, None] * np.sin(k * self.theta)
        ).sum(0)
        back = np.pi - self.from_front
        return (
            radius
            * (1 + waves)
            * (1 - 0.33 * np.exp(-((back / 0.3) ** 2)) - 0.05 * np.exp(-((self.from_front / 0.25) ** 2)))
        )

    def _window(self, low_deg: float, high_deg: float, soft_deg: float = 8.0) -> np.ndarray:
        a = np.rad2deg(self.from_front)
        return np.clip((a - low_deg) / soft_deg + 0.5, 0, 1) * np.clip((high_deg - a) / soft_deg + 0.5, 0, 1)

    def wall(self, z: float) -> Wall:
        """All tables of the slice at reference height z."""
        inner = self.inner_radius(z)
        slope = 1.0 / np.sqrt(1.0 + (np.gradient(inner, 2 * np.pi / ANGLES) / inner) ** 2)
        sheets, depth = self._sheets(z)
        back_share = self._window(100, 181, 60)
        fat = self.fat_front * (1 - back_share) + self.fat_back * back_share
        skin = np.maximum(inner + (depth + fat) / slope, self._superellipse(OUTER, z) * self.girth + 0.8 * (fat - 14))
        bump = np.exp(-(((np.rad2deg(self.from_front) - 38) / 22) ** 2)) * np.exp(-(((z + 45) / 48) ** 2))
        skin = skin + self.breast_mm * bump
        kernel = np.hanning(41)
        skin = np.convolve(np.pad(skin, 20, mode="wrap"), kernel / kernel.sum(), mode="valid")
        return Wall(inner, skin, slope, self._ribs(z), sheets)

    def _ribs(self, z: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        u = 1.0 - self.from_front / np.pi  # 0 at the spine, 1 at the sternum
        half, cartilage = np.zeros(ANGLES), np.zeros(ANGLES)
        for i in range(12):
            drop = self.rib_drop * (48 + 14 * min(i, 7)) if i < 10 else 30.0
            end = 0.94 if i < 7 else (0.86 - 0.05 * (i - 7) if i < 10 else 0.45)
            height = RIB_TOP_MM - RIB_STEP_MM * i + self.rib_shift + 6 * np.sin(np.pi * u) - drop * (1 - (1 - u) ** 1.4)
            joins = max(0.0, 1.0 * (i - 2)) * 9.0
            height = height + joins * np.clip((u - 0.72) / 0.25, 0, 1) ** 1.5  # lower cartilages rise to the sternum
            inside = 1.0 - ((z - height) / self.rib_half_height) ** 2
            here = np.where(u < end, np.sqrt(np.clip(inside, 0, None)), 0.0)
            cartilage = np.where((here > half) & (u > 0.74), 1.0, cartilage)
            half = np.maximum(half, here)
        return np.full(ANGLES, 1.6 + self.rib_half_thickness), half * self.rib_half_thickness, cartilage

    def _sheets(self, z: float) -> tuple[tuple[tuple[np.ndarray, np.ndarray], ...], np.ndarray]:
        """Muscle sheets outside the ribs as depth bands, with fat between, and the depth they end at."""
        out = []
        depth = np.full(ANGLES, 2.2 + 2 * self.rib_half_thickness + 0.6)
        lateral = np.where(np.cos(self.theta) > 0, self.side[0], 2 - self.side[0])

        waves = self.sheet_waves
        depths = (0.5, 0.3, 0.2, 0.25, 0.3, 0.15, 0.35)  # serratus is made of slips
        loose = 0.6 + 0.6 * min(self.patient.info["fatness"], 2.0)  # fat between the sheets

        def add(low, high, z_low, z_high, thick, gap, soft=10.0):
            nonlocal depth
            height = np.clip((z - z_low) / 12 + 0.5, 0, 1) * np.clip((z_high - z) / 12 + 0.5, 0, 1)
            t = thick * self.muscle * height * self._window(low, high, soft) * lateral
            k = len(out)
            t = t * (1.0 - depths[k] + depths[k] * np.sin(waves[0, k] * self.theta + z * waves[1, k] + waves[2, k]))
            if t.max() < 0.6:
                return
            start = depth + gap * loose * (t > 0.4)
            out.append((start, start + t))
            depth = np.where(t > 0.4, start + t, depth)

        z_arm = np.clip((z + 30) / 100, 0, 1)  # sheets move to the arm as they go up
        add(60, 132 + 10 * z_arm, -135, 50, 6.0, 0.8)  # serratus anterior
        add(22, 60 + 10 * z_arm, -8, 50, 5.0, 1.2)  # pectoralis minor
        add(8, 62 + 16 * z_arm, -58, 62, 8.0, 1.6, 24)  # pectoralis major
        add(88 - 8 * z_arm, 145 - 15 * z_arm, -230, 30, 7.5, 1.8, 24)  # latissimus dorsi
        add(28, 95, -260, -95, 6.0, 1.5)  # external oblique
        add(4, 26, -260, -110, 8.0, 1.2)  # rectus abdominis
        add(126, 163, -60, 75, 5.0, 2.5, 20)  # trapezius and rhomboids
        return tuple(out), depth

    def paint_slice(
        self, z: float, y: np.ndarray, x: np.ndarray, edge: float, texture: Texture
    ) -> tuple[np.ndarray, np.ndarray]:
        """HU [Y, X] of the slice at reference height z (cavity left as fat), and depth [Y, X], negative in the chest.

        y, x: reference coordinates [Y, X] of the pixels.
        """
        wall = self.wall(z)
        rho = np.sqrt(x * x + y * y)
        index = ((np.arctan2(y, x) + np.float32(np.pi)) * np.float32(ANGLES / (2 * np.pi))).astype(np.int32) % ANGLES

        def look(table: np.ndarray) -> np.ndarray:
            return table.astype(np.float32)[index]

        slope = look(wall.slope)
        depth = (rho - look(wall.inner)) * slope
        to_skin = look(wall.skin) - rho
        hu = self.patient.hu
        image = np.full(rho.shape, -1000.0, dtype=np.float32)
        body = np.clip(0.5 + to_skin / edge, 0, 1)
        fine = texture.look(texture.fine, np.array([z]), y[:, 0], x[0])[0]
        septa = texture.septa(np.array([z]), y[:, 0] * 0.7, x[0] * 0.7)[0]
        fat = hu["fat"] + 5 * fine + 22 * septa
        image += body * (fat - image)
        skin_layer = body * np.clip(0.5 + (1.8 - to_skin) / edge, 0, 1)
        image += skin_layer * (20.0 - image)
        muscle = hu["muscle"] + 6 * fine - 18 * septa

        def band(low: np.ndarray, high: np.ndarray, value, limit=None) -> None:
            inside = np.minimum(depth - look(low), look(high) - depth)
            occupancy = np.clip(0.5 + inside / edge, 0, 1) * (to_skin > 2)
            if limit is not None:
                occupancy = occupancy * limit
            np.add(image, occupancy * (value - image), out=image)

        self._breast(image, z, depth, to_skin, wall, look, fine, fat)
        for low, high in wall.sheets:
            band(low, np.where(high - low > 0.4, high, low - 9), muscle)
        centre, half, cartilage = wall.ribs
        thickness = self.rib_half_thickness
        top = RIB_TOP_MM + self.rib_shift - 48 * self.rib_drop * (1 - (self.from_front / np.pi) ** 1.4)
        wavy = 0.15 * np.sin(11 * self.theta + 0.11 * z) + 0.1 * np.sin(23 * self.theta - 0.2 * z)
        low = centre - (0.5 + wavy) * thickness
        high = np.where(z < top, centre + (0.5 + wavy) * thickness, -1e3)
        off_spine = (np.abs(x) > 14) | (y < 0)
        band(low, high, muscle - 3 * np.abs(fine), off_spine)
        mid = np.full(ANGLES, centre[0])
        band(mid - 0.35, mid + 0.35, hu["fat"] * 0.3, off_spine * (np.sin(9 * look(self.theta) + z * 0.06) > -0.3))
        bone = np.where(cartilage > 0.5, self.cartilage_hu, hu["cortical"])
        marrow = np.where(cartilage > 0.5, self.cartilage_hu, hu["cancellous"] * 0.75)
        shell = np.where(cartilage > 0.5, 0.6, 1.1)
        if self.calcified:
            bone = np.where(cartilage > 0.5, 320.0, bone)
        hidden = np.full(ANGLES, -1e3)
        on = half > 0.5
        band(np.where(on, centre - half, 0), np.where(on, centre + half, hidden), look(bone), off_spine)
        core = half > shell + 0.3
        band(
            np.where(core, centre - half + shell, 0),
            np.where(core, centre + half - shell, hidden),
            look(marrow) + 35 * fine,
            off_spine,
        )
        self._sternum(image, z, x, y, wall, edge, fine)
        return image, depth

    def _breast(self, image, z, depth, to_skin, wall, look, fine, fat) -> None:
        """Glandular tissue in streaks within the fat in front of the pectoral muscle."""
        if self.breast_mm < 14 or not -110 < z < 25:
            return
        bump = np.exp(-(((np.rad2deg(self.from_front) - 38) / 20) ** 2)) * np.exp(-(((z + 45) / 40) ** 2))
        share = look(bump) * np.clip((depth - 26) / 6, 0, 1) * np.clip((to_skin - 6) / 5, 0, 1)
        gland = np.clip(share * 1.4 + 0.35 * fine - 0.45, 0, 0.85)
        image += gland * (self.gland_hu - image)

    def _sternum(self, image, z, x, y, wall, edge, fine) -> None:
        if not -95 < z < 66:
            return
        manubrium = np.clip((z - 22) / 14, 0, 1)
        half_width = np.interp(z, [-95, -75, -20, 18, 26, 50, 66], [5, 14, 17, 13, 22, 30, 18])
        half_depth = 5.6 + 1.8 * manubrium
        front = wall.inner[ANGLES // 4]  # radius at the very front
        u = np.maximum(np.abs(x) / half_width, 1e-3)
        v = (y + front + half_depth + 1.5 - 0.004 * x * x) / half_depth
        k = (np.abs(u) ** 3 + np.abs(v) ** 3) ** (1 / 3)
        distance = (k - 1) * half_depth
        occupancy = np.clip(0.5 - distance / edge, 0, 1)
        image += occupancy * (self.patient.hu["cortical"] * 0.8 - image)
        occupancy = np.clip(0.5 - (distance + 1.3) / edge, 0, 1)
        image += occupancy * (self.patient.hu["cancellous"] * 0.8 + 45 * fine - image)

    def paint_table(self, slab) -> None:
        """The couch under the back: a curved plate with a bright shell and light foam inside, and a thin mattress."""
        gap, bow, depth_mm = self.table
        back = 112 * self.patient.scale[1] + self.patient.subcutaneous_fat_mm * 0.5 + gap
        x, y = slab.x[None, :], slab.y[:, None]
        top = back + 0.35 * gap - x * x / bow
        bottom = back + depth_mm - np.maximum(np.abs(x) - 120, 0) * 0.8
        image = np.full((len(slab.y), len(slab.x)), -1000.0, dtype=np.float32)
        width = np.abs(x) < 215
        inside = np.clip(0.5 + np.minimum(y - top, bottom - y) / slab.edge_mm, 0, 1) * width
        image += inside * 60
        for edge_y, hu, half in ((top, 150.0, 0.9), (bottom, 0.0, 0.7)):
            shell = np.clip(0.5 + (half - np.abs(y - edge_y)) / slab.edge_mm, 0, 1) * width * (bottom > top)
            image += shell * (hu - image)
        air = slab.hu < -990
        slab.hu[air] = np.broadcast_to(image, slab.hu.shape)[air]
