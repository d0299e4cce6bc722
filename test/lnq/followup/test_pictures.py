"""Pictures show one node in both CTs, to one scale, also beyond an image's border."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from helpers.followups import balls
from helpers.rows import CHANGES
from PIL import Image

from lnq.followup.pictures import View, picture
from lnq.followup.register import Alignment
from lnq.image.volume import Volume, make_affine

MERGED, NEW, GONE = CHANGES
SAME = dataclasses.replace(MERGED, earlier=(2,))
SHIFTED = np.eye(4)
SHIFTED[:3, 3] = (20.0, 0.0, 0.0)


def view(centre: tuple[float, float, float], radius_mm: float, number: int) -> View:
    """A view of 40 HU with a node of 200 HU."""
    grid = Volume(np.full((20, 80, 80), 40, np.int16), make_affine((4.0, 2.0, 2.0), (-80.0, -80.0, -40.0)))
    mask = balls(grid, (centre, radius_mm)).array
    return View(grid.with_array(np.where(mask, 200, 40).astype(np.int16)), mask * number, f"CT {number}")


def shown(jpeg: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The two panels, RGB."""
    pixels = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")).astype(int)
    assert pixels.shape == (200, 400, 3)
    return pixels[:, :198], pixels[:, 202:]


def orange(panel: np.ndarray) -> np.ndarray:
    """Where the outline is."""
    red, green, blue = np.moveaxis(panel, -1, 0)
    return np.argwhere((red - blue > 80) & (red > 120) & (green < red - 20))


def test_a_node_is_outlined_in_the_middle_of_both():
    """A node of 20 mm in a square of 60 mm, shown by 198 pixels."""
    panels = shown(picture(view((0, 0, 0), 10, 2), view((20, 0, 0), 10, 1), SAME, Alignment(SHIFTED, 1.0)))
    for panel in panels:
        outline = orange(panel)
        assert np.abs(outline.mean(axis=0) - 99).max() < 6
        assert np.ptp(outline, axis=0) == pytest.approx([66, 66], abs=10)


def test_what_is_new_shows_the_same_place_of_the_earlier_ct():
    earlier, later = view((0, 0, 0), 10, 9), view((20, 0, 0), 10, 2)
    before, after = shown(picture(earlier, later, NEW, Alignment(SHIFTED, 1.0)))
    assert len(orange(before)) == 0 and len(orange(after)) > 50
    assert before[99, 99].mean() > 180  # what lies there is not one of the row's nodes, but bright as it was drawn


def test_what_is_gone_shows_the_same_place_of_the_later_ct():
    before, after = shown(picture(view((0, 0, 0), 8, 1), view((20, 0, 0), 8, 9), GONE, Alignment(SHIFTED, 1.0)))
    assert len(orange(before)) > 50 and len(orange(after)) == 0 and after[99, 99].mean() > 180


@pytest.mark.parametrize(
    ("place", "black"),
    [
        ((-78, 0, 0), np.s_[30:, :70]),
        ((0, -78, 0), np.s_[40:70, :]),
        ((300, 0, 0), np.s_[30:, :]),
        ((0, 0, 500), np.s_[30:, :]),
    ],
)
def test_what_lies_beyond_the_other_ct_is_black(place, black):
    """But for the title in the corner."""
    matrix = np.eye(4)
    matrix[:3, 3] = place
    before, after = shown(picture(view((0, 0, 0), 8, 1), view((0, 0, 0), 8, 9), GONE, Alignment(matrix, 1.0)))
    assert len(orange(before)) > 50 and after[black].max() < 12


def test_a_large_node_widens_both():
    panels = shown(picture(view((0, 0, 0), 35, 2), view((0, 0, 0), 10, 1), SAME, Alignment(np.eye(4), 1.0)))
    wide, narrow = (np.ptp(orange(panel), axis=0).mean() for panel in panels)
    assert wide / narrow == pytest.approx(3.5, rel=0.15) and wide < 190
