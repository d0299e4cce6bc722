"""The stations of the IASLC map in the reference patient: where nodes lie, and how often."""

from collections.abc import Sequence

import numpy as np

# By name: centre and spread, both x, y, z (left, back, up) in mm of the reference patient, and how often a node lies
# there. The right lower paratracheal (4R) and the subcarinal station (7) drain both lungs, so enlarged nodes are most
# frequent there. Then follow the hila and their branches (10, 11), which drain one lung, the nodes before the great
# vessels (3A) and below the arch (5), which lymphoma fills, and the left paratracheal ones (4L). The upper paratracheal
# nodes (2), those beside the ascending aorta (6) and those beside the oesophagus (8) are less frequent. Few lie behind
# the trachea (3P).
STATIONS = {
    "2R": ((-16, -18, 52), (6, 7, 9), 0.8),
    "4R": ((-20, -16, 18), (7, 8, 11), 2.0),
    "2L": ((16, -10, 52), (5, 6, 8), 0.5),
    "4L": ((17, 0, 12), (4, 7, 9), 0.9),
    "3A": ((6, -64, 22), (15, 7, 18), 1.0),
    "6": ((24, -40, 16), (8, 10, 10), 0.8),
    "5": ((36, -22, 12), (6, 8, 7), 1.0),
    "7": ((3, 11, -24), (10, 5, 10), 1.6),
    "8": ((4, 22, -70), (12, 7, 26), 0.7),
    "10R": ((-38, -2, -14), (7, 10, 9), 1.0),
    "11R": ((-50, 10, -42), (7, 10, 14), 1.0),
    "10L": ((40, 4, -14), (6, 9, 9), 0.8),
    "11L": ((52, 10, -36), (6, 10, 14), 0.9),
    "3P": ((8, 18, 40), (8, 4, 12), 0.3),
}

CARINA_MM = (0.0, 6.0, -6.0)  # x, y, z in the reference patient where the airways are seen to part
LUNGS_MM = (270.0, 210.0, 235.0)  # x, y, z extent of both lungs of the reference patient
SCALES = (0.8, 1.2)  # of a patient; a deep breath or a wide chest moves the stations less than the lungs' border


def draw_station(rng: np.random.Generator) -> str:
    """Draw a station's name, as often as nodes lie there."""
    weights = np.array([weight for _, _, weight in STATIONS.values()])
    return str(rng.choice(list(STATIONS), p=weights / weights.sum()))


def spots_around(
    rng: np.random.Generator, station: str, lungs_mm: Sequence[float], count: int, wider_mm: float = 0.0
) -> np.ndarray:
    """Draw points of a station, [count, 3], z, y, x in mm from the carina.

    `lungs_mm`: extent z, y, x of both lungs, by which the reference patient is scaled. The spread grows by `wider_mm`.
    """
    centre, spread, _ = STATIONS[station]
    reference = np.array(centre) - CARINA_MM + rng.normal(size=(count, 3)) * (np.array(spread) + wider_mm)
    scale = np.clip(np.array(lungs_mm)[::-1] / LUNGS_MM, *SCALES)
    points: np.ndarray = (reference * scale)[:, ::-1]
    return points
