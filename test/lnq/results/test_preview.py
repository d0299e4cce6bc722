import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from lnq.image.volume import Volume
from lnq.results.preview import FOUND_COLOUR, TRUTH_COLOUR, axial_slices, preview


def ball(volume: Volume, index: tuple[int, int, int]) -> Volume:
    away = sum((i - c) ** 2 for i, c in zip(np.indices(volume.shape), index, strict=True))
    return volume.with_array((away <= 16).astype(np.uint8))


def has_colour(path, colour: str) -> bool:
    pixels = np.asarray(Image.open(path).convert("RGB")) / 255
    return bool((np.abs(pixels - to_rgb(colour)).max(axis=-1) < 0.08).sum() > 20)


def test_picture_shows_prediction_and_truth_in_their_colours(tmp_path, thorax):
    preview(thorax, ball(thorax, (24, 20, 30)), tmp_path / "a.png", ball(thorax, (26, 24, 34)), title="case")
    assert has_colour(tmp_path / "a.png", FOUND_COLOUR)
    assert has_colour(tmp_path / "a.png", TRUTH_COLOUR)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_picture_without_truth_or_any_node(tmp_path, thorax):
    preview(thorax, thorax.with_array(np.zeros(thorax.shape, np.uint8)), tmp_path / "a.png")
    assert not has_colour(tmp_path / "a.png", TRUTH_COLOUR)


def test_panels_without_a_slice_stay_black(tmp_path, thorax):
    array = np.zeros(thorax.shape, np.uint8)
    array[24, 20:24, 30:34] = 1
    preview(thorax, thorax.with_array(array), tmp_path / "a.png")
    pixels = np.asarray(Image.open(tmp_path / "a.png").convert("L"))
    assert (pixels == 255).mean() < 0.1


def test_picture_is_the_same_for_a_flipped_volume(tmp_path, thorax):
    mask = ball(thorax, (24, 20, 30))
    flipped = thorax.affine.copy()
    flipped[:3, 3] += flipped[:3, 2] * (thorax.shape[2] - 1)
    flipped[:3, 2] *= -1
    preview(thorax, mask, tmp_path / "a.png")
    turned = [Volume(np.ascontiguousarray(v.array[:, :, ::-1]), flipped) for v in (thorax, mask)]
    preview(*turned, tmp_path / "b.png")
    np.testing.assert_array_equal(*(np.asarray(Image.open(tmp_path / f"{n}.png")) for n in "ab"))


@pytest.mark.parametrize(
    ("areas", "count", "expected"),
    [
        ([0, 0, 3, 3, 0, 0, 0, 6, 0], 4, [7, 3, 2]),
        ([0, 5, 0], 5, [1]),
        ([0] * 10, 5, [9, 7, 5, 3, 1]),
    ],
)
def test_axial_slices_are_shares_of_what_is_marked(areas, count, expected):
    marked = np.zeros((len(areas), 2, 6), bool)
    for z, area in enumerate(areas):
        marked[z, 0, :area] = True
    assert axial_slices(marked, count) == expected
