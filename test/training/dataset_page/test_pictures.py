from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from helpers.prepared_cases import fake_case
from PIL import Image

from training.data.prepared import PreparedCase
from training.dataset_page.pictures import CASE_PIXELS, SPOT_PIXELS, case_picture, chest_picture, spot_picture

BLUE, ORANGE = (86, 180, 233), (230, 159, 0)
SPOT = ((5, 10, 8), (8, 15, 13))  # the annotated node


@pytest.fixture
def case(tmp_path: Path) -> PreparedCase:
    fake_case(tmp_path, "a", 0)
    return PreparedCase(tmp_path / "a")


def pixels(picture: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(picture))
    assert image.format == "JPEG"
    return np.asarray(image).astype(int)


def near(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Rows and columns of a colour, which JPEG changes a little."""
    return np.argwhere(np.abs(picture - colour).max(axis=-1) < 60)


def test_a_spot_is_in_the_middle_with_the_labels_outline(case: PreparedCase) -> None:
    found = pixels(spot_picture(case, SPOT))
    assert found.shape == (*SPOT_PIXELS[::-1], 3)
    outline, frame = near(found, BLUE), near(found, ORANGE)
    assert len(outline) > 80 and len(frame) > 40
    for points in (outline, frame):
        np.testing.assert_allclose((points.min(axis=0) + points.max(axis=0)) / 2, [144, 144], atol=9)
    side = np.ptp(outline, axis=0)
    np.testing.assert_allclose(side, 5 * 288 / 30, atol=8)  # 5 voxels of 3 mm, in a view of 90 mm
    assert (np.ptp(frame, axis=0) > side).all()


def test_a_moved_label_is_shown_where_it_would_fit(case: PreparedCase) -> None:
    found = pixels(spot_picture(case, SPOT, (0.0, 0.0, 9.0)))
    blue, orange = (near(found, colour).mean(axis=0) for colour in (BLUE, ORANGE))
    assert orange[1] - blue[1] == pytest.approx(9 * 288 / 90, abs=12) and orange[0] == pytest.approx(blue[0], abs=6)
    other = pixels(spot_picture(case, SPOT, (8.0, 0.0, 0.0)))
    assert len(near(other, ORANGE)) < 10  # two slices away there is no label


def test_a_spot_at_the_border_is_shown_with_air_around(case: PreparedCase) -> None:
    found = pixels(spot_picture(case, ((0, 0, 0), (1, 2, 2))))
    assert found.shape == (*SPOT_PIXELS[::-1], 3) and found[:100, :100].max() < 40


def test_a_cases_picture_keeps_its_proportions(case: PreparedCase) -> None:
    found = pixels(case_picture(case))
    assert found.shape[0] == CASE_PIXELS[1] and found.shape[1] == round(176 * 20 / 24)
    assert len(near(found, BLUE)) > 60


def test_a_chest_is_shown_upright(case: PreparedCase) -> None:
    found = pixels(chest_picture(case))
    assert found.shape[:2] == (round(288 * 48 / 60), 288)
    bright = np.argwhere(found[..., 0] > 130).mean(axis=0)  # the middle node, at slice 6 of 12, column 10 of 20
    assert bright == pytest.approx([288 * 24 / 60, 144], abs=30)


def test_pictures_are_small(case: PreparedCase) -> None:
    assert len(spot_picture(case, SPOT)) < 25_000 and len(case_picture(case)) < 15_000
