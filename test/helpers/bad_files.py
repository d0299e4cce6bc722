"""Files that no CT can be read from: how each is made, and the sentence a user gets."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from lnq.image.itk import to_sitk, write_volume
from lnq.image.volume import Volume, make_affine


def write_itk(array: np.ndarray, path: Path, **options) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(array, **options), str(path))


def edit_header(volume: Volume, path: Path, old: str, new: str) -> None:
    """An uncompressed MetaImage with one line of its header replaced."""
    write_volume(volume, path.with_suffix(".mha"), compress=False)
    data = path.with_suffix(".mha").rename(path).read_bytes()
    header = re.sub(rf"^{old} = .*$".encode(), f"{old} = {new}".encode(), data[:1000], flags=re.MULTILINE)
    path.write_bytes(header + data[1000:])


def cut_off(volume: Volume, path: Path) -> None:
    write_volume(volume, path)
    path.write_bytes(path.read_bytes()[:-2000])


def with_value(volume: Volume, value: float) -> Volume:
    array = volume.array.astype(np.float32)
    array[20, 20, 20] = value
    return volume.with_array(array)


def with_spacing(volume: Volume, spacing_mm: tuple[float, float, float]) -> Volume:
    return Volume(volume.array, make_affine(spacing_mm))


def without_line(volume: Volume, path: Path, key: str) -> None:
    """An uncompressed file without one line of its header."""
    write_volume(volume, path, compress=False)
    data = path.read_bytes()
    path.write_bytes(re.sub(rf"^{key}.*\n".encode(), b"", data[:1000], flags=re.MULTILINE) + data[1000:])


Writer = Callable[[Volume, Path], object]
BAD_FILES: list[tuple[str, Writer, str]] = [
    (
        "text.mha",
        lambda v, p: p.write_text("These are no voxels.\n"),
        "text.mha cannot be read: it is not a medical image, or its format is not known",
    ),
    (
        "notes.txt",
        lambda v, p: p.write_text("No image.\n"),
        "notes.txt cannot be read: it is not a medical image",
    ),
    ("cut.mha", cut_off, "cut.mha cannot be read: it is truncated"),
    ("cut.nii.gz", cut_off, "cut.nii.gz cannot be read: it is truncated or damaged"),
    (
        "cut.nii",
        cut_off,
        "cut.nii cannot be read: it is truncated",
    ),
    (
        "flat.mha",
        lambda v, p: write_itk(v.array[20], p),
        "flat.mha cannot be used: it has 2 dimensions: a CT volume has 3",
    ),
    (
        "film.nrrd",
        lambda v, p: sitk.WriteImage(sitk.JoinSeries([to_sitk(v)] * 2), str(p)),
        "film.nrrd cannot be used: it has 4 dimensions: a CT volume has 3",
    ),
    (
        "colour.mha",
        lambda v, p: write_itk(np.zeros((8, 8, 8, 3), np.uint8), p, isVector=True),
        "colour.mha cannot be used: it is a colour or vector image: a CT has one value per voxel",
    ),
    (
        "nan.mha",
        lambda v, p: write_volume(with_value(v, np.nan), p),
        "nan.mha cannot be used: it holds NaN or infinite values",
    ),
    (
        "infinite.nrrd",
        lambda v, p: write_volume(with_value(v, np.inf), p),
        "infinite.nrrd cannot be used: it holds NaN or infinite values",
    ),
    (
        "air.mha",
        lambda v, p: write_volume(v.with_array(np.full_like(v.array, -1000)), p),
        "air.mha cannot be used: it shows only air",
    ),
    (
        "slice.mha",
        lambda v, p: write_volume(Volume(v.array[20:21], v.affine), p),
        "slice.mha cannot be used: it is a single slice: a CT volume is needed",
    ),
    (
        "zero.mha",
        lambda v, p: edit_header(v, p, "ElementSpacing", "5 0 5"),
        "zero.mha cannot be read: its voxel spacing is zero, negative or not a number",
    ),
    (
        "fine.mha",
        lambda v, p: write_volume(with_spacing(v, (5, 0.1, 0.1)), p),
        "fine.mha cannot be used: its voxel spacing 0.1 x 0.1 x 5 mm lies outside 0.2-15 mm",
    ),
    (
        "coarse.mha",
        lambda v, p: write_volume(with_spacing(v, (16, 1, 1)), p),
        "coarse.mha cannot be used: its voxel spacing 1 x 1 x 16 mm lies outside 0.2-15 mm",
    ),
    (
        "narrow.mha",
        lambda v, p: write_volume(with_spacing(v, (5, 1.5, 1.5)), p),
        "narrow.mha cannot be used: its field of view of 96 x 84 mm lies outside 100-800 mm",
    ),
    (
        "wide.mha",
        lambda v, p: write_volume(with_spacing(v, (5, 13, 13)), p),
        "wide.mha cannot be used: its field of view of 832 x 728 mm lies outside 100-800 mm",
    ),
    (
        "sheared.mha",
        lambda v, p: edit_header(v, p, "TransformMatrix", "1 0 0 0.5 1 0 0 0 1"),
        "sheared.mha cannot be read: its orientation matrix is not a rotation",
    ),
    (
        "bytes.mha",
        lambda v, p: write_volume(v.with_array((v.array > -500).astype(np.uint8)), p),
        "bytes.mha cannot be used: its voxels have 8 bits: CT values in HU need 16",
    ),
    (
        "shifted.mha",
        lambda v, p: write_volume(v.with_array(v.array + 1024), p),
        "shifted.mha cannot be used: its values are not HU: none lies below -200",
    ),
    (
        "huge.mha",
        lambda v, p: write_volume(with_value(v, 1e30), p),
        "huge.mha cannot be used: its values are not HU: they go from -",
    ),
    (
        "unspaced.mha",
        lambda v, p: without_line(v, p, "ElementSpacing"),
        "unspaced.mha cannot be read: its header gives no voxel spacing",
    ),
    (
        "unspaced.nrrd",
        lambda v, p: without_line(v, p, "space directions"),
        "unspaced.nrrd cannot be read: its header gives no voxel spacing",
    ),
    (
        "long.nii",
        lambda v, p: (write_volume(v, p), p.write_bytes(p.read_bytes() + b"\0\0")),
        "long.nii cannot be read: it holds more than the 344,416 bytes that its header claims",
    ),
    (
        "elsewhere.mhd",
        lambda v, p: edit_header(v, p, "ElementDataFile", "../../voxels.raw"),
        "elsewhere.mhd cannot be read: its header names a voxel file outside its folder, ../../voxels.raw",
    ),
    ("empty.mha", lambda v, p: p.write_bytes(b""), "empty.mha cannot be read: it is empty"),
    (
        "nothing.nii.gz",
        lambda v, p: p.write_bytes(gzip.compress(b"")),
        "nothing.nii.gz cannot be read: it is not a medical image",
    ),
]
