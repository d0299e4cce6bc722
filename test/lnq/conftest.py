"""A run's outcome to make reports of: a chest with three nodes, one of each size, and a case's entry and rows."""

from typing import Any

import numpy as np
import pytest

from lnq.tables import COLUMNS
from lnq.volume import Volume

NODES = {  # number: box on the chest's grid, short axis in mm
    1: ((slice(36, 38), slice(20, 22), slice(30, 32)), 8.4),
    2: ((slice(28, 32), slice(24, 28), slice(26, 29)), 12.3),
    3: ((slice(20, 26), slice(22, 27), slice(33, 38)), 24.0),
}


@pytest.fixture
def node_labels(thorax: Volume) -> Volume:
    """Each node's number, int16, on the chest's grid."""
    array = np.zeros(thorax.shape, np.int16)
    for number, (box, _) in NODES.items():
        array[box] = number
    return thorax.with_array(array)


@pytest.fixture
def node_rows() -> list[dict[str, Any]]:
    """The rows of the nodes' table; nothing is known of the third one's place."""
    rows = [
        dict.fromkeys(COLUMNS)
        | {"case": "chest", "number": number, "short_axis_mm": axis_mm, "volume_mm3": 1234.5, "mean_hu": -9.6}
        | {"mean_probability": 0.876, "side": "left", "above_carina_mm": -12.0, "s_mm": 80.0}
        for number, (_, axis_mm) in NODES.items()
    ]
    rows[2] |= {"side": None, "above_carina_mm": None}
    return rows


@pytest.fixture
def done_entry() -> dict[str, Any]:
    return {
        "case": "chest",
        "input": "/archive/Doe^John/chest.mha",
        "status": "done",
        "error": None,
        "mask": "chest/segmentation.mha",
        "warnings": ["No contrast was found."],
        "seconds": 7.72,
        "nodes": 3,
        "volume_mm3": 3703.5,
        "versions": {"lnq": "0.1.0", "model": "55d9555c3babc14e", "backend": "openvino", "device": "cpu"},
    }
