"""The frames of a multi-frame CT object (Enhanced or Legacy Converted Enhanced CT), each as a slice of its own."""

from __future__ import annotations

from collections.abc import Sequence

import pydicom

from lnq.dicom.header import FRAMES, OF_IMAGE, OF_RESULTS, SliceFile, count_of
from lnq.errors import ImageError

# tag of a slice: the functional group that holds it, and its name there (PS3.3, C.7.6.16)
_GROUPS = {
    "ImagePositionPatient": ("PlanePositionSequence", "ImagePositionPatient"),
    "ImageOrientationPatient": ("PlaneOrientationSequence", "ImageOrientationPatient"),
    "PixelSpacing": ("PixelMeasuresSequence", "PixelSpacing"),
    "SliceThickness": ("PixelMeasuresSequence", "SliceThickness"),
    "RescaleSlope": ("PixelValueTransformationSequence", "RescaleSlope"),
    "RescaleIntercept": ("PixelValueTransformationSequence", "RescaleIntercept"),
    "RescaleType": ("PixelValueTransformationSequence", "RescaleType"),
    "ImageType": ("CTImageFrameTypeSequence", "FrameType"),
}


def frames_of(file: SliceFile) -> list[SliceFile]:
    """The slices of a file: itself, or one for each frame of a multi-frame object.

    Raises ImageError where a multi-frame object does not describe each of its frames.
    """
    header = file.header
    count = count_of(header, "NumberOfFrames")
    if FRAMES[1] not in header and count == 1:
        return [file]
    try:
        own = list(header.get(FRAMES[1]) or ())
        shared = list(header.get(FRAMES[0]) or ())
        if len(own) != count:
            raise ValueError
        return [SliceFile(file.path, _frame(header, [groups, *shared]), i) for i, groups in enumerate(own)]
    except Exception:  # pydicom raises errors of many kinds for a damaged sequence
        sentence = "its multi-frame file {file} does not describe each of its {count} frames"
        raise ImageError(sentence, file=file.path.name, count=count) from None


def _frame(header: pydicom.Dataset, groups: Sequence[pydicom.Dataset]) -> pydicom.Dataset:
    """The header of one frame as of a slice. What stands nearest to the frame holds."""
    frame = pydicom.Dataset()
    frame.file_meta = header.file_meta
    for tag in dict.fromkeys((*OF_IMAGE, *OF_RESULTS)):
        if tag in header and tag != "NumberOfFrames":
            frame[tag] = header.get_item(tag)
    for tag, (sequence, name) in _GROUPS.items():
        for group in groups:
            if group.get(sequence) and name in group[sequence][0]:
                setattr(frame, tag, group[sequence][0][name].value)
                break
    return frame
