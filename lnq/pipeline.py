"""From a CT to a mask of its mediastinal lymph nodes, in the steps of METHOD section 7."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from lnq.anatomy.crop import PADDING_HU, Crop, find_crop
from lnq.image.itk import write_volume
from lnq.image.plausible import warnings_for
from lnq.image.resample import (
    Orientation,
    box_reaching,
    reorient_to_lps,
    resample_array_to,
    resample_image,
    resample_label_to,
)
from lnq.image.volume import Box, Volume, bounding_box
from lnq.inference.backends import Model
from lnq.inference.calibration import UNCALIBRATED, Calibration
from lnq.inference.normalise import normalise
from lnq.inference.spec import CropSpec, ModelSpec, Triple
from lnq.nodes.measure import Landmarks, Node, agreement, find_landmarks, measure_nodes
from lnq.nodes.postprocess import drop_faint, postprocess


@dataclass(frozen=True, eq=False)
class Prepared:
    """A CT ready for the network, except for the normalisation, and what leads back to the CT's own grid."""

    image: Volume  # HU, float32: LPS, cropped, at the target spacing
    region: np.ndarray  # bool: the mediastinal region on the image's grid
    cropped: Volume  # HU: LPS, cropped, at the CT's own spacing
    crop: Crop
    orientation: Orientation
    source: Volume  # the CT on its own grid

    def paste(self, array: np.ndarray, box: Box | None = None) -> Volume:
        """Put an array on the crop's grid, or on a `box` of it, back on the CT's own grid, with 0 outside."""
        return self.source.with_array(np.ascontiguousarray(self.orientation.undo(self.crop.undo(array, box))))


@dataclass(frozen=True, eq=False)
class Reached:
    """Where the probability of node reaches a threshold: a box of the crop's grid, and arrays [Z, Y, X] in it.

    Probability and HU may be 0 where the threshold is not reached.
    """

    threshold: float
    box: Box
    marked: np.ndarray  # bool: where it is reached
    probability: np.ndarray  # float32
    hu: Volume  # as `Inferred.hu`


@dataclass(frozen=True, eq=False)
class Inferred:
    """The network's output for one CT, before any threshold.

    On the crop's grid, arrays are 0 outside the region's box where the specification uses the region. Most of a CT can
    have no node, so a part of an array may be computed alone, and a whole one is computed when it is asked for.
    """

    ready: Prepared
    output: np.ndarray  # float32 [Z, Y, X]: probability of node on the grid that the network saw, not calibrated
    use_region: bool
    seconds: dict[str, float]  # per stage
    warnings: tuple[str, ...] = ()  # what was not computed as planned
    members: tuple[np.ndarray, ...] = ()  # as `output`, float16: each network's own, where several were run
    calibration: Calibration = UNCALIBRATED  # of what is resampled: so masks stay where thresholds move along

    @cached_property
    def probability(self) -> np.ndarray:
        """Probability of node, float32 [Z, Y, X], on the crop's grid."""
        return self.calibration.apply(self._on_crop(self.output))

    @cached_property
    def hu(self) -> Volume:
        """HU that the network saw, resampled to the crop's grid.

        The HU range was measured at the model's spacing; a sharp kernel's noise would punch holes at the CT's own.
        """
        return self.ready.cropped.with_array(self._on_crop(self.ready.image.array))

    def reaching(self, threshold: float) -> Reached:
        """Where the probability reaches a threshold."""
        ready, raw = self.ready, self.calibration.inverse.at(threshold)
        box = box_reaching(self.output, raw, ready.image, ready.cropped, self._box)
        output = resample_array_to(self.output, ready.image, ready.cropped, box)
        hu = ready.cropped.crop(box).with_array(resample_array_to(ready.image.array, ready.image, ready.cropped, box))
        return Reached(threshold, box, output >= raw, self.calibration.apply(output), hu)

    def marked_by_each(self, threshold: float, box: Box) -> Iterator[np.ndarray]:
        """Where each network's own probability reaches a threshold, bool, in a box of the crop's grid; one at a time.

        Nothing where there is one network.
        """
        raw = self.calibration.inverse.at(threshold)
        for own in self.members:
            yield resample_array_to(own, self.ready.image, self.ready.cropped, box) >= raw

    @property
    def _box(self) -> Box:
        return bounding_box(self.ready.crop.region) if self.use_region else np.s_[:, :, :]

    def _on_crop(self, array: np.ndarray) -> np.ndarray:
        whole = np.zeros(self.ready.cropped.shape, np.float32)
        whole[self._box] = resample_array_to(array, self.ready.image, self.ready.cropped, self._box)
        return whole


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The nodes found in one CT. Arrays stay on the crop's grid until a property puts them on the CT's own grid."""

    inferred: Inferred
    reached: Reached
    marked: np.ndarray  # uint8 [Z, Y, X], 1 in nodes, in the box of `reached`
    warnings: tuple[str, ...] = ()  # sentences for the user, each once

    @property
    def ready(self) -> Prepared:
        """The CT as the network saw it."""
        return self.inferred.ready

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds per stage."""
        return self.inferred.seconds

    @property
    def nodes(self) -> list[Node]:
        """The measured nodes, from the head downwards."""
        return self._measured[0]

    @property
    def region_box(self) -> Box:
        """The box around the region in which nodes may be reported, in LPS axes of the whole CT."""
        return self.ready.crop.region_box

    @cached_property
    def mask(self) -> Volume:
        """The mask on the CT's own grid: uint8, 1 in nodes."""
        return self.ready.paste(self.marked, self.reached.box)

    @cached_property
    def labels(self) -> Volume:
        """Each node's number in its voxels, int16, on the CT's own grid."""
        return self.ready.paste(self._measured[1], self.reached.box)

    @cached_property
    def probability(self) -> Volume:
        """The probability of node, float32, on the CT's own grid; 0 outside the region's box."""
        return self.ready.paste(self.inferred.probability)

    @cached_property
    def _measured(self) -> tuple[list[Node], np.ndarray]:
        """The nodes, and each node's number (int16) in the box of `reached`."""
        if not self.marked.any():
            return [], self.marked.astype(np.int16)
        chest = self.ready.cropped.crop(self.reached.box)
        mask = chest.with_array(self.marked)
        nodes, numbers = measure_nodes(mask, chest.array, self.reached.probability, landmarks_of(self.ready))
        if not self.inferred.members:
            return nodes, numbers
        around = bounding_box(numbers)
        starts = [part.start for part in self.reached.box]
        box = [slice(start + a.start, start + a.stop) for start, a in zip(starts, around, strict=True)]
        marks = self.inferred.marked_by_each(self.reached.threshold, (box[0], box[1], box[2]))
        shares = agreement(numbers[around], len(nodes), marks)
        return [replace(node, agreement=share) for node, share in zip(nodes, shares, strict=True)], numbers

    def save(self, path: Path | str, labels: bool = False) -> None:
        """Write the mask to .mha, .nrrd, .nii or .nii.gz. With `labels`, write each node's number instead.

        The file appears complete or not at all. Raises ValueError for another format, and OSError where the file cannot
        be written.
        """
        write_volume(self.labels if labels else self.mask, path)


def prepare(volume: Volume, target_spacing_mm: Triple, spec: CropSpec) -> Prepared:
    """Reorient, crop to the lungs and resample, alike for training and inference (METHOD section 2)."""
    lps, orientation = reorient_to_lps(volume)
    crop = find_crop(lps, spec)
    cropped = crop.apply(lps)
    if cropped.array.min() < PADDING_HU:
        cropped = cropped.with_array(np.maximum(cropped.array, PADDING_HU))
    image = resample_image(cropped, target_spacing_mm)
    region = resample_label_to(cropped.with_array(crop.region), image).array.astype(bool)
    return Prepared(image, region, cropped, crop, orientation, volume)


def segment(volume: Volume, model: Model) -> Segmentation:
    """Find the mediastinal lymph nodes of a CT in HU, of any orientation and spacing. The CT was checked before."""
    inferred = infer(volume, model)
    reached, marked = mark_nodes(inferred, model.spec)
    return Segmentation(inferred, reached, marked, _warnings(inferred))


def _warnings(inferred: Inferred) -> tuple[str, ...]:
    """Sentences on how the CT was read, what was not found or not done as planned, and what is unlike the training."""
    ready = inferred.ready
    unlike = warnings_for(ready.cropped, ready.crop.region, ready.crop.lungs_found)
    return tuple(dict.fromkeys((*ready.source.warnings, *ready.crop.warnings, *inferred.warnings, *unlike)))


def infer(volume: Volume, model: Model) -> Inferred:
    """The probability of node in the crop of a CT."""
    spec = model.spec
    seconds: dict[str, float] = {}
    with _timed(seconds, "prepare"):
        ready = prepare(volume, spec.spacing_mm, spec.crop)
        image = normalise(ready.image.array, spec.normalisation)
    with _timed(seconds, "network"):
        region = ready.region if spec.crop.use_region else None
        found = model.probabilities(image, region)
    return Inferred(ready, found.mean, spec.crop.use_region, seconds, found.warnings, found.members, spec.calibration)


def mark_nodes(inferred: Inferred, spec: ModelSpec) -> tuple[Reached, np.ndarray]:
    """The nodes by the specification's thresholds and rules: uint8 [Z, Y, X], 1 in nodes, in the box of `Reached`."""
    with _timed(inferred.seconds, "postprocess"):
        reached = inferred.reaching(spec.threshold)
        return reached, by_rules(reached, inferred.ready.crop, spec)


def by_rules(reached: Reached, crop: Crop, spec: ModelSpec) -> np.ndarray:
    """Apply the specification's rules to what reaches its threshold; uint8 [Z, Y, X], 1 in nodes, in the same box."""
    nodes = postprocess(reached.marked, reached.hu, crop, spec.postprocess, spec.crop.use_region, reached.box)
    return drop_faint(nodes, reached.probability, spec.peak_threshold)


def mask_of(inferred: Inferred, spec: ModelSpec) -> Volume:
    """The mask of `mark_nodes` on the CT's own grid: uint8, 1 in nodes."""
    reached, marked = mark_nodes(inferred, spec)
    return inferred.ready.paste(marked, reached.box)


def landmarks_of(ready: Prepared) -> Landmarks:
    """The landmarks that positions are measured from.

    There are none where fewer than two lungs were found, or nothing between them, or where left and right are unknown.
    """
    region = ready.crop.region
    if not ready.source.oriented or ready.crop.lungs_found < 2 or region.all():
        return Landmarks(None, None)
    return find_landmarks(ready.cropped, region)


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start
