"""What is wrong with a series that objects shall refer to; what is right, the objects' own tests read."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from lnq.dicom.header import SliceFile
from lnq.errors import ImageError
from lnq.image.volume import Volume
from lnq.results.dicom_reference import refer_to


def error_of(series, **changes) -> str:
    with pytest.raises((ImageError, ValueError)) as caught:
        refer_to(**({"labels": series.labels, "slices": series.read()} | changes))
    return str(caught.value)


def edit(path: Path, **tags):
    """Set these tags of a file, or take out those that are None."""
    header = pydicom.dcmread(path)
    for tag, value in tags.items():
        if value is None:
            delattr(header, tag)
        else:
            setattr(header, tag, value)
    header.save_as(path)


def test_directions_that_differ_by_rounding_are_one(make_series):
    series = make_series("oblique")
    cosines = pydicom.dcmread(series.slices[3]).ImageOrientationPatient
    edit(series.slices[3], ImageOrientationPatient=[f"{float(c):.4f}" for c in cosines])
    source = refer_to(series.labels, series.read())
    assert all(header.ImageOrientationPatient == source.slices[0].ImageOrientationPatient for header in source.slices)


def test_labels_and_slices_must_be_as_many(series):
    said = error_of(series, slices=series.read()[:-1])
    assert said == "The labels have 7 slices, the series has 6 files"


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"SOPInstanceUID": None}, "its slice 0005.dcm has no SOPInstanceUID"),
        ({"StudyInstanceUID": ""}, "its slice 0005.dcm has no StudyInstanceUID"),
        ({"StudyInstanceUID": "1.2"}, "its slices are of different studies"),
        ({"SeriesInstanceUID": "1.2"}, "its slices are of different series"),
        ({"FrameOfReferenceUID": "1.2"}, "its slices are of different frames of reference"),
        ({"SOPClassUID": "1.2"}, "its slice 0005.dcm is of SOP class 1.2, not a CT image"),
        ({"Rows": 8}, "its slice 0005.dcm has 8 x 13 pixels, its labels 9 x 13"),
        ({"Rows": None}, "its slice 0005.dcm has no usable size, position, orientation or spacing"),
        ({"PixelSpacing": [1, 1, 1]}, "its slice 0005.dcm has no usable size, position, orientation or spacing"),
        ({"ImagePositionPatient": None}, "its slice 0005.dcm has no usable size, position, orientation or spacing"),
    ],
)  # fmt: skip
def test_slice_that_cannot_be_referred_to_is_named(series, tags, reason):
    edit(series.slices[2], **tags)
    assert error_of(series) == f"No DICOM object can refer to ct: {reason}"


def test_slices_must_lie_where_the_labels_do(series):
    start = "No DICOM object can refer to ct: its slice"
    said = error_of(series, slices=series.read()[::-1])
    assert said == f"{start}s are not in the order of the labels'"
    labels = series.labels
    moved, turned, longer = (labels.affine.copy() for _ in range(3))
    moved[:3, 3] += labels.affine[:3, 0]
    turned[:3, 2] *= -1
    longer[:3, 0] *= 1.2
    for affine, name, z in ((moved, "0007.dcm", 0), (turned, "0007.dcm", 0), (longer, "0001.dcm", 6)):
        said = error_of(series, labels=Volume(labels.array, affine))
        assert said == f"{start} {name} does not lie where slice {z} of the labels does"


class Undecodable(pydicom.Dataset):
    def get(self, *_):
        raise NotImplementedError("Unknown Value Representation '??'")


def test_a_slice_that_cannot_be_decoded_is_named(series):
    slices = series.read()
    slices[4] = SliceFile(slices[4].path, Undecodable(slices[4].header))
    assert error_of(series, slices=slices) == "No DICOM object can refer to ct: its file 0003.dcm is damaged"


def test_a_damaged_or_missing_file_is_named(series):
    series.slices[4].write_bytes(b"no DICOM file")
    with pytest.raises(ImageError, match=r"^its file 0003.dcm is damaged$"):
        series.read()
    series.slices[4].unlink()
    with pytest.raises(ImageError, match=r"^its file 0003.dcm is damaged$"):
        series.read()
