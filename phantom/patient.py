"""The patient in the scanner: size, fat, contrast phase, and the HU that follow from them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from phantom.shapes import Pose

PHASES = ("arterial", "venous", "none")


@dataclass(frozen=True, eq=False)
class Patient:
    """Everything random that several structures share."""

    female: bool
    scale: tuple[float, float, float]  # x, y, z, as parts of the reference patient's size
    fatness: float  # 1 = average
    subcutaneous_fat_mm: float
    muscle: float  # 1 = average bulk
    mediastinal_fat_mm: float  # thickness of the fat between structures and the pleura
    mediastinal_closing_mm: float  # gaps between structures up to twice this are filled with fat
    front_slope: float  # mm by which the fat behind the sternum widens per mm backwards
    haze_hu: float  # how much oedema or strands raise the HU of the mediastinal fat
    crowding: float  # factor on the vessels' width: in lean patients they lie side by side
    phase: str
    hu: dict[str, float]  # by tissue
    pose: Pose
    warp_vectors: np.ndarray  # [3, 3] wave vectors, 1/mm
    warp_amplitudes: np.ndarray  # [3, 3] mm
    warp_phases: np.ndarray  # [3]

    def place(self, points: ArrayLike) -> np.ndarray:
        """This patient's points [N, 3] of reference points, both x, y, z in mm: scaled, and bent by slow waves."""
        p = np.asarray(points, dtype=float) * self.scale
        waves = np.sin(p @ self.warp_vectors.T + self.warp_phases)
        placed: np.ndarray = p + waves @ self.warp_amplitudes
        return placed


def draw_patient(rng: np.random.Generator, phase: str | None = None) -> Patient:
    """Draw a patient. `phase`, one of PHASES, is drawn where it is None. Raises ValueError for another one."""
    female = bool(rng.random() < 0.45)
    size = rng.normal(0.95 if female else 1.01, 0.05)
    scale = [float(np.clip(size * rng.normal(1.0, 0.04), 0.82, 1.16)) for _ in range(3)]
    fatness = float(np.clip(rng.gamma(2.2, 0.45), 0.1, 2.6))  # 1 = average
    phase = str(rng.choice(PHASES, p=[0.3, 0.5, 0.2])) if phase is None else phase
    if phase not in PHASES:
        raise ValueError(f"phase must be one of {PHASES}, not {phase!r}")
    vectors = rng.normal(size=(3, 3))
    vectors *= 2 * np.pi / rng.uniform(90, 180, (3, 1)) / np.linalg.norm(vectors, axis=1, keepdims=True)
    return Patient(
        female=female,
        scale=(scale[0], scale[1], scale[2]),
        fatness=fatness,
        subcutaneous_fat_mm=float(4.0 + 11.0 * fatness * rng.uniform(0.7, 1.3)),
        muscle=float(np.clip(rng.normal(0.85 if female else 1.05, 0.15), 0.6, 1.5)),
        mediastinal_fat_mm=float(np.clip(0.4 + 1.2 * fatness * rng.uniform(0.5, 1.5), 0.4, 5.0)),
        mediastinal_closing_mm=float(np.clip(7.5 + 4.0 * fatness * rng.uniform(0.5, 1.5), 7.5, 20.0)),
        front_slope=float(rng.uniform(0.05, 0.2) + 0.12 * fatness),
        haze_hu=float(rng.uniform(10, 45) if rng.random() < 0.3 else 4.0),
        crowding=float(np.clip(1.14 - 0.09 * fatness + rng.normal(0, 0.04), 0.9, 1.2)),
        phase=phase,
        hu=draw_hu(rng, phase),
        pose=draw_pose(rng),
        warp_vectors=vectors,
        warp_amplitudes=rng.normal(0.0, 1.6, (3, 3)),
        warp_phases=rng.uniform(0, 2 * np.pi, 3),
    )


def draw_pose(rng: np.random.Generator) -> Pose:
    """Draw how a patient lies."""
    return Pose(
        roll_rad=float(np.deg2rad(np.clip(rng.normal(0, 2.5), -7, 7))),
        shift_mm=(float(rng.normal(0, 6)), float(rng.normal(0, 6))),
        lean=(float(rng.normal(0, 0.03)), float(rng.normal(0, 0.015))),
    )


def draw_hu(rng: np.random.Generator, phase: str) -> dict[str, float]:
    """Draw the HU of tissues in a contrast phase."""
    blood = float(rng.uniform(34, 50))
    hu = {
        "fat": float(rng.normal(-110, 4)),
        "muscle": float(rng.normal(54, 4)),
        "lung": float(rng.normal(-880, 25)),
        "cancellous": float(rng.uniform(70, 185)),
        "cortical": float(rng.uniform(550, 900)),
        "wall": float(rng.normal(45, 6)),
    }
    if phase == "none":
        names = ("aorta", "pulmonary_artery", "pulmonary_vein", "svc", "ivc", "left_heart", "right_heart")
        hu |= {name: blood + float(rng.normal(0, 1.0)) for name in names}
        hu |= {"myocardium": blood + 3, "thyroid": 105.0, "liver": 58.0, "spleen": 48.0, "systemic_vein": blood}
    elif phase == "arterial":
        hu |= _arterial_hu(rng)
    else:
        hu |= _venous_hu(rng)
    return hu


def _arterial_hu(rng: np.random.Generator) -> dict[str, float]:
    aorta = float(rng.uniform(230, 420))
    return {
        "aorta": aorta,
        "pulmonary_artery": float(aorta * rng.uniform(0.7, 1.35)),
        "pulmonary_vein": float(aorta * rng.uniform(0.9, 1.15)),
        "svc": float(rng.choice([rng.uniform(90, 200), rng.uniform(250, 700)])),
        "ivc": float(rng.uniform(60, 120)),
        "left_heart": float(aorta * rng.uniform(0.92, 1.05)),
        "right_heart": float(aorta * rng.uniform(0.5, 1.1)),
        "systemic_vein": float(rng.uniform(50, 110)),
        "myocardium": float(rng.uniform(85, 125)),
        "thyroid": float(rng.uniform(150, 210)),
        "liver": float(rng.uniform(60, 85)),
        "spleen": float(rng.uniform(95, 140)),
    }


def _venous_hu(rng: np.random.Generator) -> dict[str, float]:
    aorta = float(rng.uniform(130, 215))
    return {
        "aorta": aorta,
        "pulmonary_artery": float(aorta * rng.uniform(0.9, 1.15)),
        "pulmonary_vein": float(aorta * rng.uniform(0.95, 1.1)),
        "svc": float(aorta * rng.uniform(0.85, 1.5)),
        "ivc": float(aorta * rng.uniform(0.6, 0.95)),
        "left_heart": float(aorta * rng.uniform(0.95, 1.03)),
        "right_heart": float(aorta * rng.uniform(0.9, 1.05)),
        "systemic_vein": float(aorta * rng.uniform(0.6, 1.1)),
        "myocardium": float(rng.uniform(90, 120)),
        "thyroid": float(rng.uniform(130, 180)),
        "liver": float(rng.uniform(95, 125)),
        "spleen": float(rng.uniform(105, 130)),
    }
