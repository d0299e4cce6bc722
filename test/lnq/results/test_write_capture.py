"""Secondary captures: what is drawn, on which slices, and that they lie where their slices lie."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from helpers.pictures import ct_of
from scipy import ndimage

from lnq.results.write_capture import draw_slice, write_captures

ORANGE = (0xE6, 0x9F, 0x00)


def written(series, folder):
    write_captures(folder, ct_of(series.labels), series.labels, series.nodes, series.read(), series.maker)
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


def test_each_slice_with_a_node_is_shown_where_it_lies(make_series, orientation, tmp_path):
    series = make_series(orientation)
    captures = written(series, tmp_path / "captures")
    sources = [pydicom.dcmread(series.slices[z]) for z in (1, 2, 5)]
    assert [one.InstanceNumber for one in captures] == [1, 2, 3]
    for capture, source in zip(captures, sources, strict=True):
        for name in ("Rows", "Columns", "FrameOfReferenceUID", "StudyInstanceUID", "PatientID"):
            assert capture[name].value == source[name].value
        for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
            np.testing.assert_allclose(capture[name].value, source[name].value, atol=1e-6)
        assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert float(capture.SliceThickness) == 2.5
        assert capture.pixel_array.shape == (9, 13, 3)
    assert len({one.SOPInstanceUID for one in captures}) == 3
    assert {one.SeriesInstanceUID for one in captures} == {captures[0].SeriesInstanceUID}
    assert captures[0].SeriesInstanceUID != sources[0].SeriesInstanceUID


def test_the_window_is_that_of_soft_tissue():
    """Centre 40, width 400: -160 HU is black, 240 white."""
    hu = np.array([[-1000, -160, 40, 240, 3000]], np.int16)
    shown = draw_slice(np.repeat(hu, 40, axis=0), np.zeros((40, 5), np.int16))
    assert shown[0, :, 0].tolist() == [0, 0, 128, 255, 255]
    assert (shown == shown[..., :1]).all()


@pytest.fixture
def labels():
    """A disc of 61 pixels across with a hole, number 12."""
    y, x = np.indices((200, 200)) - 100
    disc = (np.hypot(y, x) <= 30) & (np.hypot(y, x) > 5)
    return np.where(disc, 12, 0).astype(np.int16)


def test_an_outline_is_the_nodes_outermost_pixels_and_hides_nothing_else(labels):
    shown = draw_slice(np.full(labels.shape, 40, np.int16), labels)
    orange = (shown == ORANGE).all(axis=2)
    inner = ndimage.binary_erosion(labels > 0)
    edge = (labels > 0) & ~inner
    assert orange[edge].all() and not orange[inner].any()
    assert (shown[inner] == 128).all()


def test_a_number_stands_right_of_its_node_in_its_colour(labels):
    """Its pixels are orange with black around them, outside of the node."""
    shown = draw_slice(np.full(labels.shape, 40, np.int16), labels)
    changed = (shown != 128).any(axis=2) & (labels == 0)
    rows, columns = np.nonzero(changed)
    assert columns.min() > 130 and columns.max() < 155 and rows.min() >= 90 and rows.max() <= 110
    red, _, blue = shown[changed].astype(int).T
    assert (red - blue > 60).any() and (shown[changed] < 20).all(axis=1).any()


def test_numbers_of_two_nodes_stand_on_their_far_sides():
    labels = np.zeros((200, 200), np.int16)
    labels[90:110, 70:95], labels[90:110, 98:120] = 1, 2
    shown = draw_slice(np.full(labels.shape, 40, np.int16), labels)
    changed = (shown != 128).any(axis=2) & (labels == 0)
    columns = np.nonzero(changed.any(axis=0))[0]
    assert ((columns < 70) | (columns >= 120)).all()
    assert (columns < 70).any() and (columns >= 120).any()


def test_notes_stand_at_the_bottom():
    hu = np.full((200, 200), 40, np.int16)
    plain, noted = draw_slice(hu, np.zeros_like(hu)), draw_slice(hu, np.zeros_like(hu), ["one", "two"])
    rows = np.nonzero((plain != noted).any(axis=(1, 2)))[0]
    assert rows.min() > 160 and rows.max() < 200
    one = draw_slice(hu, np.zeros_like(hu), ["one"])
    assert np.nonzero((one != noted).any(axis=(1, 2)))[0].max() < 188  # "two" stands above "one"


def test_without_a_node_the_middle_slice_says_so(series, tmp_path):
    (capture,) = written(series.without_nodes(), tmp_path / "captures")
    assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == pydicom.dcmread(series.slices[3]).SOPInstanceUID


def test_nothing_in_a_picture_tells_who_the_patient_is(series, tmp_path):
    captures = written(series, tmp_path / "captures")
    assert {one.BurnedInAnnotation for one in captures} == {"NO"}
    assert {one.ContentQualification for one in captures} == {"RESEARCH"}
