"""Chest wall and skin of one patient, as tables per slice.

The wall is described by angle and depth. The angle goes round the body. The depth is the distance in mm outside the
inner surface of the chest. Each rib and each muscle sheet is a band of depths per angle, so that a slice costs only a
few look-ups.
"""

from dataclasses import dataclass

import numpy as np

from phantom.patient import Patient

ANGLES = 720  # entries of a table, from -pi to pi
# The inner surface of the chest: height z, half width, front and back, in mm from the axis x = 0, y = 0.
INNER = np.array(
    [
        (-260, 138, 102, 96), (-180, 140, 108, 97), (-125, 138, 112, 96), (-100, 134, 111, 96), (-70, 128, 109, 95),
        (-40, 122, 103, 94), (-20, 119, 96, 92), (0, 116, 88, 88), (25, 111, 78, 80), (45, 103, 60, 70),
        (62, 88, 42, 61), (78, 68, 26, 52), (92, 44, 8, 42), (104, 20, 2, 30), (112, 4, 2, 6), (200, 4, 2, 6),
    ], dtype=float)  # fmt: skip
# The skin where arms and shoulders decide it, not the rib cage. The columns are those of INNER.
OUTER = np.array(
    [
        (-260, 150, 112, 104), (-100, 158, 120, 108), (-40, 170, 116, 110), (0, 182, 106, 108), (30, 190, 96, 104),
        (60, 202, 86, 98), (85, 208, 74, 88), (105, 190, 64, 82), (125, 120, 70, 80), (150, 64, 72, 72),
        (220, 62, 72, 70),
    ], dtype=float)  # fmt: skip
RIB_TOP_MM, RIB_STEP_MM = 95.0, 23.5  # height of the first rib at the spine, and from rib to rib


@dataclass(frozen=True, eq=False)
class Wall:
    """Tables [ANGLES] of one slice, in mm."""

    inner: np.ndarray  # radius of the inner surface
    skin: np.ndarray  # radius of the skin
    slope: np.ndarray  # mm of depth per mm of radius
    ribs: tuple[np.ndarray, np.ndarray, np.ndarray]  # depth of the centre, half thickness, share of cartilage
    sheets: tuple[tuple[np.ndarray, np.ndarray], ...]  # depths between which each muscle lies


class Body:
    """The shape of one patient's chest wall, drawn once. `wall` gives the tables of a slice."""

    def __init__(self, patient: Patient, rng: np.random.Generator):
        self.patient = patient
        self.theta = (np.arange(ANGLES) + 0.5) * 2 * np.pi / ANGLES - np.pi
        self.from_front = np.abs((self.theta + 1.5 * np.pi) % (2 * np.pi) - np.pi)  # 0 at the front, pi at the back
        self.exponent = float(rng.uniform(2.05, 2.5))
        self.harmonics = rng.normal(0, 0.008, (2, 4))
        self.rib_half_height = float(rng.uniform(5.0, 6.6))
        self.rib_half_thickness = float(rng.uniform(3.5, 4.6))
        self.rib_shift = float(rng.normal(0, 4))
        self.rib_drop = float(rng.normal(1.0, 0.1))
        self.muscle = patient.muscle
        self.fat_front = patient.subcutaneous_fat_mm * float(rng.uniform(0.6, 1.0))
        self.fat_back = patient.subcutaneous_fat_mm * float(rng.uniform(0.8, 1.3))
        self.side = rng.normal(1.0, 0.06, 6)  # factors on the thickness of the left side's sheets
        self.sheet_waves = np.stack([rng.integers(5, 16, 8), rng.uniform(-0.2, 0.2, 8), rng.uniform(0, 6.3, 8)])
        self.cartilage_hu = float(rng.uniform(75, 130))
        self.girth = float(0.93 + 0.05 * (patient.muscle - 1) + rng.normal(0, 0.015))
        self.calcified = bool(rng.random() < 0.35)
        self.breast_mm = float(rng.uniform(15, 55)) if patient.female else float(rng.uniform(0, 8))
        self.gland_hu = float(rng.uniform(0, 50))
        self.couch = (float(rng.uniform(6, 25)), float(rng.uniform(900, 2400)), float(rng.uniform(25, 60)))

    def _superellipse(self, table: np.ndarray, z: float) -> np.ndarray:
        """Radius [ANGLES] at height z of the superellipse whose half axes stand in INNER or OUTER."""
        width, front, back = (np.interp(z, table[:, 0], table[:, i]) for i in (1, 2, 3))
        c, s = np.abs(np.cos(self.theta)), np.abs(np.sin(self.theta))
        depth = np.where(np.sin(self.theta) < 0, front, back)
        n = self.exponent
        radius: np.ndarray = ((c / max(width, 1)) ** n + (s / np.maximum(depth, 1)) ** n) ** (-1 / n)
        return radius

    def inner_radius(self, z: float) -> np.ndarray:
        """Radius [ANGLES] in mm of the inner surface of the chest at reference height z."""
        radius = self._superellipse(INNER, z)
        k = np.arange(2, 6)[:, None]
        waves = (
            self.harmonics[0][:, None] * np.cos(k * self.theta) + self.harmonics[1][:, None] * np.sin(k * self.theta)
        ).sum(0)
        back = np.pi - self.from_front
        dents = 1 - 0.33 * np.exp(-((back / 0.3) ** 2)) - 0.05 * np.exp(-((self.from_front / 0.25) ** 2))
        dented: np.ndarray = radius * (1 + waves) * dents  # the spine dents the back, the sternum the front
        return dented

    def _window(self, low_deg: float, high_deg: float, soft_deg: float = 8.0) -> np.ndarray:
        """1 [ANGLES] between two angles from the front, 0 beyond, on both sides of the body."""
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
        """Depth of the centre, half thickness and share of cartilage, tables [ANGLES], of the ribs at height z."""
        u = 1.0 - self.from_front / np.pi  # along a rib: 0 at the spine, 1 at the sternum
        half, cartilage = np.zeros(ANGLES), np.zeros(ANGLES)
        for i in range(12):
            drop = self.rib_drop * (48 + 14 * min(i, 7)) if i < 10 else 30.0
            end = 0.94 if i < 7 else (0.86 - 0.05 * (i - 7) if i < 10 else 0.45)
            height = RIB_TOP_MM - RIB_STEP_MM * i + self.rib_shift + 6 * np.sin(np.pi * u) - drop * (1 - (1 - u) ** 1.4)
            joins = max(0.0, 1.0 * (i - 2)) * 9.0
            height = height + joins * np.clip((u - 0.72) / 0.25, 0, 1) ** 1.5  # the lower cartilages rise
            inside = 1.0 - ((z - height) / self.rib_half_height) ** 2
            here = np.where(u < end, np.sqrt(np.clip(inside, 0, None)), 0.0)
            cartilage = np.where((here > half) & (u > 0.74), 1.0, cartilage)
            half = np.maximum(half, here)
        return np.full(ANGLES, 1.6 + self.rib_half_thickness), half * self.rib_half_thickness, cartilage

    def _sheets(self, z: float) -> tuple[tuple[tuple[np.ndarray, np.ndarray], ...], np.ndarray]:
        """Muscle sheets outside the ribs as bands of depth with fat between, and the depth [ANGLES] where they end."""
        out: list[tuple[np.ndarray, np.ndarray]] = []
        depth = np.full(ANGLES, 2.2 + 2 * self.rib_half_thickness + 0.6)
        lateral = np.where(np.cos(self.theta) > 0, self.side[0], 2 - self.side[0])

        waves = self.sheet_waves
        depths = (0.5, 0.3, 0.2, 0.25, 0.3, 0.15, 0.35)  # of the waves; the serratus, the first, is made of slips
        loose = 0.6 + 0.6 * min(self.patient.fatness, 2.0)  # factor on the fat between the sheets

        def add(
            low: float, high: float, z_low: float, z_high: float, thick: float, gap: float, soft: float = 10.0
        ) -> None:
            """Lay a sheet over the last one. Angles are in degrees from the front, all else is in mm."""
            nonlocal depth
            height = np.clip((z - z_low) / 12 + 0.5, 0, 1) * np.clip((z_high - z) / 12 + 0.5, 0, 1)
            t = thick * self.muscle * height * self._window(low, high, soft) * lateral
            k = len(out)  # each place in the stack has its own waves
            t = t * (1.0 - depths[k] + depths[k] * np.sin(waves[0, k] * self.theta + z * waves[1, k] + waves[2, k]))
            if t.max() < 0.6:
                return
            start = depth + gap * loose * (t > 0.4)
            out.append((start, start + t))
            depth = np.where(t > 0.4, start + t, depth)

        z_arm = float(np.clip((z + 30) / 100, 0, 1))  # sheets move towards the arm as they go up
        add(60, 132 + 10 * z_arm, -135, 50, 6.0, 0.8)  # serratus anterior
        add(22, 60 + 10 * z_arm, -8, 50, 5.0, 1.2)  # pectoralis minor
        add(8, 62 + 16 * z_arm, -58, 62, 8.0, 1.6, 24)  # pectoralis major
        add(88 - 8 * z_arm, 145 - 15 * z_arm, -230, 30, 7.5, 1.8, 24)  # latissimus dorsi
        add(28, 95, -260, -95, 6.0, 1.5)  # external oblique
        add(4, 26, -260, -110, 8.0, 1.2)  # rectus abdominis
        add(126, 163, -60, 75, 5.0, 2.5, 20)  # trapezius and rhomboids
        return tuple(out), depth

    def first_rib_mm(self) -> np.ndarray:
        """Reference height [ANGLES] of the first rib. No intercostal muscle lies above it."""
        height: np.ndarray = RIB_TOP_MM + self.rib_shift - 48 * self.rib_drop * (1 - (self.from_front / np.pi) ** 1.4)
        return height
