"""Write slices of a DICOM series as secondary captures, with the nodes' outlines and numbers drawn into them.

For a PACS that shows neither SEG nor RT Structure Set. Each picture keeps its slice's pixels, place and frame of
reference, so it scrolls and links with the CT, and distances can be measured on it. Of a tilted gantry it shows what
was segmented: HU that were resampled onto an upright grid and put back.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from lnq.dicom.header import SliceFile
from lnq.image.volume import Volume
from lnq.nodes.measure import Node
from lnq.results.dicom_common import Maker, Origin, complete, origin_of, save
from lnq.results.preview import FOUND_COLOUR, WINDOW_HU

NOTE = "Research result, not for clinical use"
NOTHING = "No lymph node marked"
_TEXT_HEIGHT = 1 / 36  # of the picture's height
_LEAST_TEXT = 9  # pixels


def write_captures(
    folder: Path, ct: Volume, labels: Volume, nodes: Sequence[Node], slices: Sequence[SliceFile], maker: Maker
) -> None:
    """Write `0001.dcm` and so on into `folder`, one for each slice with a node, in the order of the slices.

    Without nodes, write the middle slice, which says so. `ct` (HU) lies on the labels' grid. The other arguments and
    the errors are those of `lnq.results.write_seg.write_seg`. The same arguments give the same bytes.
    """
    if not os.access(folder.parent, os.W_OK):
        raise PermissionError(f"{folder.parent} does not exist or cannot be written to")
    origin = origin_of(labels, nodes, slices, maker)
    shown = np.flatnonzero(labels.array.any(axis=(1, 2))).tolist() or [len(slices) // 2]
    folder.mkdir()
    for number, z in enumerate(shown, start=1):
        pixels = draw_slice(ct.array[z], labels.array[z], [NOTE] if nodes else [NOTE, NOTHING])
        save(_capture(pixels, z, number, ct.spacing_mm[0], origin), folder / f"{number:04d}.dcm")


def draw_slice(hu: np.ndarray, labels: np.ndarray, notes: Sequence[str] = ()) -> np.ndarray:
    """A slice (HU) in the soft tissue window, RGB of 8 bits [rows, columns, 3], with each node's outline and number.

    `labels` holds each node's number in its pixels. The notes stand at the bottom, the first lowest. Outlines are one
    pixel wide and lie on the node's own outermost pixels, so they hide none of what is around it. A number stands
    beside its node, on the side away from the others.
    """
    low, high = WINDOW_HU
    grey = np.clip((hu.astype(np.float32) - low) / (high - low) * 255, 0, 255).round().astype(np.uint8)
    image = Image.fromarray(np.repeat(grey[..., None], 3, axis=2))
    draw = ImageDraw.Draw(image)
    height = max(_LEAST_TEXT, round(_TEXT_HEIGHT * image.height))
    font = ImageFont.load_default(height)
    middle = np.nonzero(labels)[1].mean() if labels.any() else 0.0
    for number in np.unique(labels[labels > 0]).tolist():
        node = labels == number
        edge = node & ~_shrunk(node)
        for row, column in np.argwhere(edge).tolist():
            draw.point((column, row), FOUND_COLOUR)
        rows, columns = np.nonzero(node)
        to_left = columns.mean() < middle
        place = (columns.min() - 3 if to_left else columns.max() + 4, rows.mean())
        anchor = "rm" if to_left else "lm"
        draw.text(place, str(number), FOUND_COLOUR, font, anchor, stroke_width=1, stroke_fill="black")
    for line, note in enumerate(notes, start=1):
        place = (4, image.height - line * (height + 3) - 4)
        draw.text(place, note, "white", font, stroke_width=1, stroke_fill="black")
    return np.asarray(image)


def _shrunk(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask whose four neighbours are in it too."""
    padded = np.pad(mask, 1)
    inner: np.ndarray = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inner & mask


def _capture(pixels: np.ndarray, z: int, number: int, slice_mm: float, origin: Origin) -> pydicom.Dataset:
    header = origin.source.slices[z]
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = origin.instance_uid("OT", str(z))
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(dataset.SOPInstanceUID)
    dataset.ContentDate = dataset.ContentTime = ""  # `complete` fills them
    complete(dataset, origin, "OT")
    dataset.InstanceNumber = number
    dataset.ConversionType = "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    dataset.DerivationDescription = "Outlines and numbers of marked lymph nodes, drawn on the slice"
    source = pydicom.Dataset()
    origin.source.point_to(z, source)
    dataset.SourceImageSequence = [source]
    dataset.FrameOfReferenceUID = header.FrameOfReferenceUID
    dataset.PositionReferenceIndicator = ""
    dataset.ImagePositionPatient = header.ImagePositionPatient
    dataset.ImageOrientationPatient = header.ImageOrientationPatient
    dataset.PixelSpacing = header.PixelSpacing
    dataset.PatientOrientation = dataset.Laterality = (
        ""  # the first follows from the place, the second is of paired parts
    )
    dataset.SliceThickness = f"{slice_mm:.4f}"
    dataset.BurnedInAnnotation = "NO"  # nothing in it tells who the patient is
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    data = pixels.tobytes()
    dataset.PixelData = data + bytes(len(data) % 2)
    return dataset
