"""Prepare one raw case: crop it, resample it, and describe it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from lnq.image.components import components
from lnq.image.components import label as label_components
from lnq.inference.spec import CropSpec, Triple
from training.data.measures.measure import measure_case
from training.data.measures.record import write_measures
from training.data.measures.source import measure_source
from training.data.prepared import AIR_HU, CROPPED, STRAY_VOXELS, CaseInfo, count_hu, write_case
from training.data.sources.find import check_label, read_pair
from training.data.sources.raw_case import RawCase
from training.data.sources.states import node_of

if TYPE_CHECKING:
    from lnq.image.volume import Volume
    from lnq.pipeline import Prepared

REGION_POINTS = 4096  # voxels of the region kept for sampling patches
MAX_HU = 4095
AIR_OR_LUNG_HU = -200.0  # no node has a lower median: fat has -100 HU


def prepare_case(raw: RawCase, spacing_mm: Triple, crop: CropSpec, folder: Path) -> None:
    """Crop, resample and write one case. Raises ValueError (or ImageError, which is one) with the reason."""
    from lnq.image.resample import resample_label_to
    from lnq.pipeline import prepare  # imports SimpleITK, which training itself does not need

    image, given = read_pair(raw)
    label = node_of(given, raw)
    notes = [*image.warnings, *given.warnings, check_label(given, raw)]
    prepared = prepare(image, spacing_mm, crop)
    if prepared.crop.lungs_found < 2:
        notes += prepared.crop.warnings
    inside = _inside(label, prepared.cropped)
    if inside == 0.0:
        raise ValueError(f"{raw.label_name} lies outside the lungs' box of {raw.image.name}: a wrong pair?")
    node = resample_label_to(label, prepared.image).array
    hu = np.clip(np.round(prepared.image.array), AIR_HU, MAX_HU).astype(np.int16)
    if node.any() and np.median(hu[node > 0]) < AIR_OR_LUNG_HU:
        raise ValueError(f"{raw.label_name} marks air or lung in {raw.image.name}: a wrong pair?")
    info = CaseInfo(
        case=raw.name,
        full=raw.full,
        shape=hu.shape,
        spacing_mm=spacing_mm,
        mean_hu=float(hu.mean(dtype=np.float64)),
        std_hu=float(hu.std(dtype=np.float64)),
        node_centres=tuple(component_centres(node)),
        node_volumes_mm3=tuple(_node_volumes_mm3(label)),
        label_lost=round(1.0 - inside, 6),
        hu_counts=count_hu(hu[node > 0]),
        patient=raw.patient,
        notes=tuple(note for note in notes if note),
        crop=crop,
        provenance=raw.provenance(spacing_mm) | {CROPPED: _crop_facts(prepared)},
        told=raw.told,
    )
    points = np.argwhere(prepared.region)
    chosen = np.random.default_rng(0).permutation(len(points))[:REGION_POINTS]
    background = resample_label_to(given.with_array(given.array == 0), prepared.image).array if raw.told else None
    write_case(folder, info, hu, node, prepared.region, points[chosen], background)
    with suppress(Exception):  # only the data set's page needs them; what fails is tried, and told, at the end
        ready = prepared.image.with_array(hu)
        measures = measure_case(ready, node, prepared.region, prepared.crop.lungs_found)
        write_measures(folder, dataclasses.replace(measures, source=measure_source(image, label, ready)))


def _crop_facts(prepared: Prepared) -> dict[str, Any]:
    """How the CT was cropped. The box is in voxels (z, y, x) of the CT in LPS axes."""
    crop = prepared.crop
    return {
        "box": [[side.start, side.stop] for side in crop.box],
        "lungs": crop.lungs_found,
        "warnings": list(crop.warnings),
    }


def _inside(label: Volume, crop: Volume) -> float:
    """The fraction of the label's voxels whose centres lie in the crop; 1 where it has none."""
    index = np.argwhere(label.array > 0)
    if not len(index):
        return 1.0
    position = label.affine[:3, :3] @ index.T + label.affine[:3, 3:]
    there = np.linalg.inv(crop.affine) @ np.vstack([position, np.ones(len(index))])
    limits = np.array(crop.shape)[:, None] - 0.5
    return float(((there[:3] >= -0.5) & (there[:3] <= limits)).all(axis=0).mean())


def _node_volumes_mm3(label: Volume) -> Iterator[float]:
    """The volume of each node on the label's own grid. Nodes are the 26-connected components of each value."""
    values = label.array if label.array.dtype.kind in "iu" else label.array.astype(np.int32)
    for value, box in enumerate(ndimage.find_objects(values), start=1):
        if box is None:  # no voxel has this value
            continue
        numbers, _ = components(values[box] == value)
        for voxels in np.bincount(numbers)[1:]:
            yield float(voxels * label.voxel_volume_mm3)


def component_centres(node: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Yield for each 26-connected component its voxel (z, y, x) nearest to its centre of mass.

    Stray pieces are skipped unless there is nothing else. `node`: uint8 [Z, Y, X] on the prepared grid.
    """
    labels, _ = label_components(node)
    sizes = np.bincount(labels.ravel())[1:]
    least = min(STRAY_VOXELS, sizes.max(initial=0))
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if sizes[number - 1] < least:
            continue
        voxels = np.argwhere(labels[box] == number)
        nearest = voxels[np.argmin(((voxels - voxels.mean(axis=0)) ** 2).sum(axis=1))]
        z, y, x = (int(v) + s.start for v, s in zip(nearest, box, strict=True))
        yield z, y, x


def is_prepared(case: RawCase, spacing_mm: Triple, crop: CropSpec, folder: Path) -> bool:
    """Whether the folder holds this case, complete, with this spacing and crop."""
    try:
        stored = CaseInfo.read(folder)
        own = {key: value for key, value in stored.provenance.items() if key != CROPPED}
        return not case.problem and stored.crop == crop and case.provenance(spacing_mm) == own
    except (OSError, ValueError):
        return False
