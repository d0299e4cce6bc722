"""The station of a node, coarsely, by the borders of the IASLC map that its place from the carina tells.

Borders that are vessels (brachiocephalic vein, arch, azygos vein, pulmonary arteries) stand at their usual height and
distance from the carina, scaled by the size of the lungs. Their constants were fitted to phantoms, whose nodes are
placed by station. Near a border the answer is `UNCERTAIN`.

The map: Rusch et al., J Thorac Oncol 2009;4:568-577.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

STATIONS = ("2R", "2L", "3A", "3P", "4R", "4L", "5/6", "7", "8", "10R", "10L")
UNCERTAIN = "uncertain"

_LUNGS_MM = (235.0, 210.0, 270.0)  # z, y, x extent of both lungs for which the constants below hold
_SCALES = (0.8, 1.2)  # a deep breath moves the stations less than the lungs' border
_UNSURE_MM = (2.5, 2.0, 3.0)  # left, back, up: so near to a border nothing is said

# All in mm from the carina, towards left, back and head.
_TOP_OF_7 = -3.0  # 7 lies below the carina
_BOTTOM_OF_7 = -36.0  # the lower border of the bronchus intermedius; then 8
_HILA = (-21.0, 20.0)  # beside the main bronchi, below the carina: 10 (and 11, which is not told apart)
_BOTTOM_OF_HILA = -60.0  # heart and diaphragm lie below
_IN_FRONT_OF_7 = -40.0  # the heart
_TRACHEA_LEFT = 1.0  # its left border parts 2R and 4R from 2L and 4L
_BOTTOM_OF_2 = 38.0  # where the brachiocephalic vein crosses the trachea, on the left the top of the arch
_AZYGOS = (-26.0, 8.0)  # right of, and below it: 10R
_ARCH = (20.0, -20.0)  # left of or in front of the ligament and the arch: 5 and 6
_LEFT_PULMONARY = (-15.0, 6.0)  # behind and below its upper rim: 10L
_PREVASCULAR = (-42.0, -50.0)  # in front of the cava, on the left of the carotid artery: 3A
_RETROTRACHEAL = (4.0, 16.0)  # behind the trachea, this far above the carina: 3P

_OUTER = ((-75.0, 75.0), (-95.0, 45.0), (-130.0, 85.0))  # left, back, up: beyond lie other stations, or none


def station_of(from_carina_mm: Sequence[float], lungs_mm: Sequence[float]) -> str:
    """One of `STATIONS`, or `UNCERTAIN`, of a point (left, back, up) in mm from the carina.

    `lungs_mm`: extent z, y, x of the box around both lungs.
    """
    scale = np.clip(np.asarray(lungs_mm)[::-1] / _LUNGS_MM[::-1], *_SCALES)
    place = np.asarray(from_carina_mm) / scale
    steps = np.diag(_UNSURE_MM)
    around = {_station(*point.tolist()) for point in (place, *(place + steps), *(place - steps))}
    return around.pop() if len(around) == 1 else UNCERTAIN


def _station(left: float, back: float, up: float) -> str:
    if not all(low <= value <= high for value, (low, high) in zip((left, back, up), _OUTER, strict=True)):
        return UNCERTAIN
    if up < _TOP_OF_7:
        return _below_carina(left, back, up)
    if back > _RETROTRACHEAL[0] and up > _RETROTRACHEAL[1]:
        return "3P"
    if back < _PREVASCULAR[left > _TRACHEA_LEFT]:
        return "3A"
    if left <= _TRACHEA_LEFT:
        if up > _BOTTOM_OF_2:
            return "2R"
        return "10R" if left < _AZYGOS[0] and up < _AZYGOS[1] else "4R"
    if up > _BOTTOM_OF_2:
        return "2L"
    if left <= _ARCH[0] and back >= _ARCH[1]:
        return "4L"
    return "10L" if back > _LEFT_PULMONARY[0] and up < _LEFT_PULMONARY[1] else "5/6"


def _below_carina(left: float, back: float, up: float) -> str:
    if not _HILA[0] <= left <= _HILA[1]:
        return UNCERTAIN if up < _BOTTOM_OF_HILA else "10R" if left < 0 else "10L"
    if back < _IN_FRONT_OF_7:
        return UNCERTAIN
    return "7" if up > _BOTTOM_OF_7 else "8"
