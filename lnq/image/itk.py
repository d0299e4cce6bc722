"""Read images, and write them through SimpleITK. Only here and in `headers` is the order x, y, z: elsewhere z, y, x."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lnq.errors import Damaged, ImageError, Message, Words
from lnq.files import replace_atomically, unwritten
from lnq.image.headers.integrity import read_layout, read_voxels
from lnq.image.headers.layout import NO_ROTATION, Layout
from lnq.image.names import WRITABLE
from lnq.image.volume import Volume, make_affine

if TYPE_CHECKING:
    import SimpleITK as sitk

_MOST_VOXELS = 2**33  # 16 times 1024 x 1024 x 500
_NIFTI = (".nii", ".nii.gz")
_ROTATION_TOLERANCE = 1e-3  # largest dot product error of the direction columns; headers with 4 decimals pass


def read_volume(path: Path | str) -> Volume:
    """Read a 3-D image with one number per voxel: .mha, .mhd, .nrrd, .nhdr, .nii, .nii.gz or .hdr.

    Unsigned 8-bit files stay uint8. Other integer files give int16 where all values fit, and all else gives float32.
    Raises ImageError for a file that is missing, truncated, damaged, not an image, 2-D, 4-D, RGB or sheared. The same
    holds for a file with more bytes than its header says, and for a header that names a voxel file outside its folder.
    """
    path = Path(path)
    layout = _layout(path)
    try:
        array = read_voxels(layout)
    except Damaged as damage:
        raise ImageError("{subject} cannot be read: {problem}", subject=path.name, problem=damage) from None
    return _placed(layout, _compact(array), path)


def read_geometry(path: Path) -> Volume:
    """An image as its header alone describes it, without its voxels, which are all 0. Raises ImageError."""
    layout = _layout(path)
    return _placed(layout, np.broadcast_to(np.int16(0), layout.sizes[::-1]), path)


def _layout(path: Path) -> Layout:
    if not path.is_file():
        raise ImageError("{subject}: there is no such file", subject=path.name)
    problem = name_problem(path)
    if problem:
        raise ImageError("{subject} cannot be read: {problem}", subject=path.name, problem=problem)
    try:
        layout = read_layout(path)
    except Damaged as damage:
        raise ImageError("{subject} cannot be read: {problem}", subject=path.name, problem=damage) from None
    unfit = _unfit(layout)
    if unfit:
        raise ImageError("{subject} cannot be used: {problem}", subject=path.name, problem=unfit)
    return layout


def _placed(layout: Layout, array: np.ndarray, path: Path) -> Volume:
    affine = np.eye(4)
    affine[:3] = layout.affine[:, [2, 1, 0, 3]]
    volume = Volume(array, affine, layout.warnings, layout.oriented, layout.forms)
    if not np.abs(volume.direction.T @ volume.direction - np.eye(3)).max() < _ROTATION_TOLERANCE:
        raise ImageError("{subject} cannot be used: {problem}", subject=path.name, problem=Words(NO_ROTATION))
    return volume


def _unfit(layout: Layout) -> Message | None:
    """What makes an image no scan, as the end of a sentence; None where it may be one."""
    if layout.channels > 1:
        return Message("it is a colour or vector image: a CT has one value per voxel")
    if len(layout.sizes) != 3:
        return Message("it has {count} dimensions: a CT volume has 3", count=len(layout.sizes))
    if layout.voxels > _MOST_VOXELS:
        return Message("its header claims {voxels:,} voxels, more than any CT has", voxels=layout.voxels)
    if layout.dtype.kind == "c":
        return Message("its voxels are complex numbers, not HU")
    return None


def name_problem(path: Path) -> Message | None:
    """What is wrong with a path whose name a result could not bear, as the end of a sentence, or None."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return Message("its path is not valid UTF-8: rename it")
    return None


def from_sitk(image: "sitk.Image") -> Volume:
    """A 3-D SimpleITK image as a Volume: uint8, int16 or float32, as `read_volume` gives it."""
    import SimpleITK as sitk

    direction = np.array(image.GetDirection()).reshape(3, 3)[:, ::-1]  # columns x, y, z -> z, y, x
    affine = make_affine(image.GetSpacing()[::-1], image.GetOrigin(), direction)
    return Volume(_compact(sitk.GetArrayFromImage(image)), affine)


def to_sitk(volume: Volume) -> "sitk.Image":
    """The volume as a SimpleITK image of the same geometry; bool becomes uint8."""
    import SimpleITK as sitk

    array = volume.array.astype(np.uint8) if volume.array.dtype == bool else volume.array
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(volume.spacing_mm[::-1])
    image.SetOrigin([float(v) for v in volume.affine[:3, 3]])
    image.SetDirection([float(v) for v in volume.direction[:, ::-1].ravel()])
    return image


def _compact(array: np.ndarray) -> np.ndarray:
    if array.dtype in (np.uint8, np.int16):
        return array
    if np.issubdtype(array.dtype, np.integer):
        limits = np.iinfo(np.int16)
        if array.size and limits.min <= array.min() and array.max() <= limits.max:
            return array.astype(np.int16)
    return array.astype(np.float32, copy=False)


def write_volume(volume: Volume, path: Path | str, compress: bool = True) -> None:
    """Write to .mha, .nrrd, .nii or .nii.gz; the file appears complete or not at all.

    The geometry is exact to 1e-9, except in NIfTI, which stores it as float32. Where the volume has a NIfTI file's
    forms, a NIfTI file gets them back. Raises ValueError for another format and OSError where the file cannot be
    written.
    """
    import SimpleITK as sitk

    path = Path(path)
    if not path.name.endswith(WRITABLE):
        raise ValueError(f"A volume is written as one of {', '.join(WRITABLE)}, not as {path.name}")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"{path.parent} does not exist or cannot be written to")
    with replace_atomically(path) as part:
        try:
            sitk.WriteImage(to_sitk(volume), str(part), useCompression=compress)
        except RuntimeError as error:
            raise unwritten(path) from error
        if volume.forms is not None and path.name.endswith(_NIFTI):
            volume.forms.put_into(part)
        if not _holds(part, volume.array):  # ITK does not say so where the disk is full
            raise unwritten(path)


def _holds(path: Path, array: np.ndarray) -> bool:
    """Whether an image file holds exactly these values."""
    try:
        return np.array_equal(read_voxels(read_layout(path)), array, equal_nan=array.dtype.kind == "f")
    except (Damaged, OSError):
        return False
