"""From a CT to a mask of its mediastinal lymph nodes. Reads like METHOD section 7."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from lnq.anatomy.airway import find_carina
from lnq.anatomy.crop import PADDING_HU, Crop, find_crop
from lnq.anatomy.region import midline_column
from lnq.image.resample import Orientation, reorient_to_lps, resample_array_to, resample_image, resample_label_to
from lnq.image.volume import Volume, bounding_box
from lnq.inference.backends import Model
from lnq.inference.normalise import normalise
from lnq.inference.spec import CropSpec, ModelSpec, Triple
from lnq.nodes.measure import Landmarks, Node, measure_nodes
from lnq.nodes.postprocess import drop_faint, postprocess


@dataclass(frozen=True, eq=False)
class Prepared:
    """A CT as the network sees it, but for the normalisation, and what leads back to the original grid."""

    image: Volume  # HU, float32: LPS, cropped, at the target spacing
    region: np.ndarray  # bool: the mediastinal region on the image's grid
    cropped: Volume  # HU: LPS, cropped, at the CT's own spacing
    crop: Crop
    orientation: Orientation


@dataclass(frozen=True, eq=False)
class Inferred:
    """What the network says of one CT, before any threshold; arrays on the crop's grid, 0 outside the box of the
    region where the specification asks for one."""

    ready: Prepared
    probability: np.ndarray  # float32 [Z, Y, X] of node
    hu: Volume  # the image as the network saw it
    seconds: dict[str, float]  # per stage
    warnings: tuple[str, ...] = ()  # how it was computed, where that was not as planned


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What was found in one CT."""

    mask: Volume  # uint8, 0 and 1, on the CT's own grid
    ready: Prepared
    crop_probability: np.ndarray  # float32 [Z, Y, X] of node, on the crop's grid
    seconds: dict[str, float]  # per stage
    warnings: tuple[str, ...] = ()  # sentences for the user: what was not found, or not done as planned

    @property
    def crop(self) -> Crop:
        return self.ready.crop

    def probability(self) -> np.ndarray:
        """float32 [Z, Y, X] on the CT's own grid, 0 outside the region's box."""
        return _to_input_grid(self.crop_probability, self.ready)

    def nodes(self) -> tuple[list[Node], Volume]:
        """The nodes of the mask, measured, from the head downwards; and the mask with each node's number (int16)."""
        if not self.mask.array.any():
            return [], self.mask.with_array(self.mask.array.astype(np.int16))
        ready = self.ready
        mask = ready.cropped.with_array(ready.orientation.apply(self.mask.array)[ready.crop.box])
        nodes, numbers = measure_nodes(mask, ready.cropped.array, self.crop_probability, landmarks_of(ready))
        return nodes, self.mask.with_array(_to_input_grid(numbers, ready))


def prepare(volume: Volume, target_spacing_mm: Triple, spec: CropSpec) -> Prepared:
    """Reorient, crop to the lungs and resample, alike for training and inference (METHOD section 2)."""
    lps, orientation = reorient_to_lps(volume)
    crop = find_crop(lps, spec)
    cropped = crop.apply(lps)
    cropped = cropped.with_array(np.maximum(cropped.array, PADDING_HU))
    image = resample_image(cropped, target_spacing_mm)
    region = resample_label_to(cropped.with_array(crop.region), image).array.astype(bool)
    return Prepared(image, region, cropped, crop, orientation)


def segment(volume: Volume, model: Model) -> Segmentation:
    """Find the mediastinal lymph nodes of a CT in HU, of any orientation and spacing."""
    inferred = infer(volume, model)
    with _timed(inferred.seconds, "postprocess"):
        mask = to_mask(inferred, volume, model.spec)
    warnings = (*inferred.ready.crop.warnings, *inferred.warnings)
    return Segmentation(mask, inferred.ready, inferred.probability, inferred.seconds, warnings)


def infer(volume: Volume, model: Model) -> Inferred:
    """The probability of node in the crop of a CT."""
    spec = model.spec
    seconds: dict[str, float] = {}
    with _timed(seconds, "prepare"):
        ready = prepare(volume, spec.spacing_mm, spec.crop)
        image = normalise(ready.image.array, spec.normalisation)
    with _timed(seconds, "network"):
        region = ready.region if spec.crop.use_region else None
        probability, told = model.probability(image, region)
    with _timed(seconds, "resample"):
        box = bounding_box(ready.crop.region) if spec.crop.use_region else np.s_[:, :, :]
        probability = resample_array_to(probability, ready.image, ready.cropped, box)
        # The HU range was measured at the model's spacing; a sharp kernel's noise would punch holes at the CT's own.
        hu = ready.cropped.with_array(resample_array_to(ready.image.array, ready.image, ready.cropped, box))
    return Inferred(ready, probability, hu, seconds, tuple(told))


def to_mask(inferred: Inferred, volume: Volume, spec: ModelSpec) -> Volume:
    """Mask of the nodes on the CT's own grid, by the specification's thresholds and rules."""
    ready, use_region = inferred.ready, spec.crop.use_region
    marked = inferred.probability >= spec.threshold
    nodes = postprocess(marked, inferred.hu, ready.crop, spec.postprocess, use_region)
    nodes = drop_faint(nodes, inferred.probability, spec.peak_threshold)
    return volume.with_array(_to_input_grid(nodes, ready))


def landmarks_of(ready: Prepared) -> Landmarks:
    """What places in a CT are told by; nothing where both lungs were not found, or nothing between them."""
    region = ready.crop.region
    if ready.crop.lungs_found < 2 or region.all():
        return Landmarks(None, None)
    carina = find_carina(ready.cropped, region)
    if carina is not None:
        return Landmarks(carina[0], carina)
    middle = ready.cropped.affine @ [region.shape[0] / 2, region.shape[1] / 2, midline_column(region), 1.0]
    return Landmarks(float(middle[0]), None)


def _to_input_grid(array: np.ndarray, ready: Prepared) -> np.ndarray:
    """From the crop's grid back to the CT's own axes and size."""
    return np.ascontiguousarray(ready.orientation.undo(ready.crop.undo(array)))


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start
