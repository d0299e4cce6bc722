"""The functions of `import lnq`: read a CT or make one from an array, load a model, segment, save."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lnq import pipeline
from lnq.image import itk
from lnq.image.plausible import check_image
from lnq.image.volume import Volume, make_affine
from lnq.inference import backends
from lnq.inference.backends import Model
from lnq.inference.bundle import shipped_bundle
from lnq.pipeline import Segmentation

if TYPE_CHECKING:
    import SimpleITK as sitk

logger = logging.getLogger(__name__)


def read_ct(path: Path | str) -> Volume:
    """Read a CT in HU from an image file, or from a folder that holds a DICOM series.

    Raises ImageError, one sentence, where it is missing, damaged or not a usable CT.
    """
    from lnq.archive import open as archive  # brings pydicom, which training does without

    return archive.read_ct(Path(path))


def from_array(
    hu: np.ndarray,
    spacing_mm: Sequence[float],
    origin_mm: Sequence[float] = (0.0, 0.0, 0.0),
    direction: np.ndarray | None = None,
) -> Volume:
    """Make a CT from an array [Z, Y, X] in HU, with spacing (z, y, x) and the position (L, P, S) of voxel 0.

    `direction`: [3, 3] with unit columns that say where the axes z, y, x point in (L, P, S). By default they point to
    the patient's head, back and left. Raises ImageError, one sentence, where the result is not a usable CT, and
    ValueError for an array that is not 3-D.
    """
    return _checked(Volume(np.asarray(hu), make_affine(spacing_mm, origin_mm, direction)))


def from_sitk(image: sitk.Image) -> Volume:
    """Make a CT from a SimpleITK image in HU.

    Raises ImageError, one sentence, where it is not a usable CT, and ValueError unless it is 3-D with one number per
    voxel.
    """
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise ValueError(
            "A CT must be a 3-D image with one number per voxel, not "
            f"{image.GetDimension()}-D with {image.GetNumberOfComponentsPerPixel()}"
        )
    return _checked(itk.from_sitk(image))


def load_model(
    bundle: Path | str | None = None,
    device: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
    mirror: int | None = None,
    members: int | None = None,
) -> Model:
    """Load a bundle's model, by default the shipped one. Device `auto` takes a GPU where PyTorch can use one.

    The other arguments and the errors are those of `lnq.inference.backends.load_model`.
    """
    path = shipped_bundle() if bundle is None else bundle
    model = backends.load_model(path, device, threads, precision, mirror, members)
    if model.note:
        logger.warning("%s", model.note)
    return model


def segment(ct: Volume, model: Model) -> Segmentation:
    """Find the mediastinal lymph nodes of a CT, of any orientation and spacing.

    Raises ImageError, one sentence, where it is not a usable CT.
    """
    return pipeline.segment(_checked(ct), model)


def _checked(ct: Volume) -> Volume:
    check_image(ct)
    return ct
