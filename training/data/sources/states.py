"""The three states of a label: node, background or unknown (METHOD section 9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from training.data.sources.raw_case import RawCase

if TYPE_CHECKING:
    from lnq.image.volume import Volume

BACKGROUND, NODE, UNKNOWN = 0, 1, 2
"""Values of a label of three states, in nnU-Net's order: its `ignore` is the highest one."""


def node_of(label: Volume, raw: RawCase) -> Volume:
    """The label without its unknown voxels: above 0 where it marks a node."""
    return label if raw.ignore is None else label.with_array(np.where(label.array == raw.ignore, 0, label.array))


def states_of(case: RawCase, ct: Volume, label: Volume) -> np.ndarray:
    """A case's label on its CT's grid, uint8 [Z, Y, X] of BACKGROUND, NODE and UNKNOWN."""
    from lnq.image.resample import resample_label_to

    state = np.full(ct.shape, BACKGROUND if case.full else UNKNOWN, np.uint8)
    if case.told:
        state[resample_label_to(label.with_array(label.array == 0), ct).array > 0] = BACKGROUND
    state[resample_label_to(node_of(label, case), ct).array > 0] = NODE
    return state
