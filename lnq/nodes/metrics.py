"""Score a mask: Dice and ASSD as the LNQ organisers compute them, and detection per node (METHOD section 8)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lnq.image.components import label
from lnq.image.itk import to_sitk
from lnq.image.volume import Volume, bounding_box
from lnq.nodes.measure import axes_mm

FOUND_FRACTION = 0.2  # least fraction of a node's voxels that must be marked


@dataclass(frozen=True)
class NodeResult:
    """One node of the truth, and whether the prediction found it."""

    label: int
    short_axis_mm: float
    volume_mm3: float
    found: bool


def dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Dice of two masks of one shape: 2 |A and B| / (|A| + |B|) of the voxels above 0; 1 where both are empty.

    The same as SimpleITK's LabelOverlapMeasures.
    """
    a, b = prediction > 0, truth > 0
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return 2 * np.count_nonzero(a & b) / total if total else 1.0


def assd_mm(prediction: Volume, truth: Volume) -> float:
    """Average symmetric surface distance in mm, of the voxels above 0.

    This is half the mean distance from the prediction's contour to the truth's, plus half the reverse mean. It is 0
    where both are empty, and NaN where only one is: the caller replaces it. Raises ValueError for different shapes.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"Prediction and truth must be of one shape, not {prediction.shape} and {truth.shape}")
    a, b = prediction.array > 0, truth.array > 0
    if not a.any() and not b.any():
        return 0.0
    if not a.any() or not b.any():
        return float("nan")
    box = bounding_box(a | b, margin=(1, 1, 1))  # LabelContour finds no contour at the array's end
    grid = truth.crop(box)
    a_volume, b_volume = grid.with_array(a[box]), grid.with_array(b[box])
    return (_mean_distance_mm(a_volume, b_volume) + _mean_distance_mm(b_volume, a_volume)) / 2


def _mean_distance_mm(from_mask: Volume, to_mask: Volume) -> float:
    import SimpleITK as sitk

    from_contour, to_contour = (sitk.LabelContour(to_sitk(mask)) for mask in (from_mask, to_mask))
    distance = sitk.SignedMaurerDistanceMap(to_contour, squaredDistance=False, useImageSpacing=True)
    at_contour = sitk.GetArrayFromImage(distance)[sitk.GetArrayFromImage(from_contour) > 0]
    return float(np.abs(at_contour).mean(dtype=np.float64))


def node_detection(prediction: np.ndarray, instances: np.ndarray, spacing_mm: Sequence[float]) -> list[NodeResult]:
    """Whether each node of `instances` (labels from 1, [Z, Y, X]) was found, in the order of labels.

    A node is found where at least a fifth of its voxels are marked: above 0 in `prediction`, on the same grid.
    """
    results = []
    for number, box in enumerate(ndimage.find_objects(instances), start=1):
        if box is None:
            continue
        node = instances[box] == number
        voxels = np.count_nonzero(node)
        marked = np.count_nonzero(node & (prediction[box] > 0))
        volume = voxels * float(np.prod(spacing_mm))
        found = bool(marked >= FOUND_FRACTION * voxels)
        results.append(NodeResult(number, axes_mm(node, spacing_mm)[0], volume, found))
    return results


def false_components(prediction: np.ndarray, instances: np.ndarray) -> int:
    """How many 26-connected components of the prediction share no voxel with a node."""
    labels, count = label(prediction > 0)
    touching = np.unique(labels[(instances > 0) & (labels > 0)])
    return count - len(touching)
