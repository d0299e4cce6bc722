"""Labels as outlines: a hand-made file, round trips in any orientation, and files that are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lnq.image.itk import write_volume
from lnq.image.volume import Volume, make_affine
from training.data.sources.find import find_cases, read_states
from training.data.sources.patient_outlines import FORMAT, read_outlines, write_outlines

SQUARE = [[9.0, 18.0, 35.0], [9.0, 26.0, 35.0], [15.0, 26.0, 35.0], [15.0, 18.0, 35.0]]


def write(path: Path, **changes: object) -> Path:
    mark = {"state": "node", "centre_lps_mm": [12.0, 22.0, 35.0], "polygons_lps_mm": [SQUARE]}
    content = {"format": FORMAT, "rest": "unknown", "marks": [mark | changes.pop("mark", {})]} | changes  # type: ignore[operator]
    path.write_text(json.dumps(content))
    return path


def test_an_outline_holds_the_pixels_whose_centres_lie_in_it(tmp_path: Path) -> None:
    """Voxels of 5 x 4 x 2 mm from (L, P, S) = (0, 0, 20): rows 5 and 6 (20, 24 mm), columns 5 to 7 (10 to 14 mm)."""
    ct = Volume(np.zeros((6, 9, 12), np.int16), make_affine((5.0, 4.0, 2.0), origin_mm=(0.0, 0.0, 20.0)))
    wanted = np.full(ct.shape, 2)
    wanted[3, 5:7, 5:8] = 1
    np.testing.assert_array_equal(read_outlines(write(tmp_path / "a.json"), ct).array, wanted)


def oblique(flip: tuple[int, int, int]) -> np.ndarray:
    """An affine of 3 x 0.8 x 1.1 mm voxels, tilted by 20 degrees, with flipped axes."""
    a = np.deg2rad(20)
    tilt = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    affine = np.eye(4)
    affine[:3, :3] = tilt @ make_affine((3.0, 0.8, 1.1))[:3, :3] * np.array(flip)
    affine[:3, 3] = (-31.5, 12.25, 140.0)
    return affine


@given(
    states=hnp.arrays(np.uint8, (3, 6, 7), elements=st.integers(0, 2)),
    flip=st.tuples(*[st.sampled_from((-1, 1))] * 3),
)
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read_again_in_any_orientation(tmp_path_factory, states, flip) -> None:
    path = tmp_path_factory.getbasetemp() / "round.json"
    label = Volume(states, oblique(flip))
    write_outlines(path, label, {"case": "a"})
    np.testing.assert_array_equal(read_outlines(path, label).array, states)


def test_the_file_tells_pieces_and_where_they_come_from(tmp_path: Path) -> None:
    states = np.full((4, 10, 10), 2, np.uint8)
    states[1, 2:4, 2:4], states[3, 6:8, 6:8] = 1, 0
    write_outlines(tmp_path / "a.json", Volume(states, make_affine((2.0, 1.0, 1.0))), {"case": "a", "readers": ["B"]})
    content = json.loads((tmp_path / "a.json").read_text())
    assert (content["case"], content["readers"], content["rest"]) == ("a", ["B"], "unknown")
    assert [(one["state"], one["centre_lps_mm"]) for one in content["marks"]] == [
        ("background", [6.5, 6.5, 6.0]), ("node", [2.5, 2.5, 2.0]),
    ]  # fmt: skip


def test_a_table_may_name_outlines_as_a_label(tmp_path: Path, thorax: Volume) -> None:
    states = np.full(thorax.shape, 2, np.uint8)
    states[20:26, 24:30, 28:34], states[30, 24:30, 28:34] = 1, 0
    write_volume(thorax, tmp_path / "a.mha")
    write_outlines(tmp_path / "a.json", thorax.with_array(states), {})
    (tmp_path / "cases.csv").write_text("image,label,annotation\na.mha,a.json,partial\n")
    (case,) = find_cases([tmp_path / "cases.csv"])
    assert case.told
    np.testing.assert_array_equal(read_states(case)[1].array, states)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format": "2"}, "a.json is no file of outlines, or it is damaged"),
        ({"rest": "tumour"}, "a.json is no file of outlines, or it is damaged"),
        ({"mark": {"state": "tumour"}}, "a.json is no file of outlines, or it is damaged"),
        ({"mark": {"polygons_lps_mm": [[1, 2]]}}, "a.json is no file of outlines, or it is damaged"),
        ({"mark": {"polygons_lps_mm": [[]]}}, "a.json is no file of outlines, or it is damaged"),
        (
            {"mark": {"polygons_lps_mm": [[[9.0, 18.0, 37.0]] * 3]}},
            "a.json has an outline that lies in no slice of its CT: a wrong pair[?]",
        ),
        (
            {"mark": {"polygons_lps_mm": [[[9.0, 18.0, 50.0]] * 3]}},
            "a.json has an outline that lies in no slice of its CT: a wrong pair[?]",
        ),
    ],
)
def test_what_fits_no_ct_is_refused(tmp_path: Path, changes: dict[str, object], sentence: str) -> None:
    ct = Volume(np.zeros((6, 9, 12), np.int16), make_affine((5.0, 4.0, 2.0), origin_mm=(0.0, 0.0, 20.0)))
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        read_outlines(write(tmp_path / "a.json", **changes), ct)
    (tmp_path / "a.json").unlink()
    with pytest.raises(ValueError, match=r"^a.json cannot be read: No such file or directory$"):
        read_outlines(tmp_path / "a.json", ct)


def test_labels_of_public_cts_say_who_judged_them_and_hold_no_voxel() -> None:
    paths = sorted((Path(__file__).parents[4] / "training" / "reviewed").glob("*.json"))
    assert len(paths) == 8
    for path in paths:
        content = json.loads(path.read_text())
        assert (content["format"], content["case"]) == (FORMAT, path.stem)
        assert [one["reader"] for one in content["readers"]] == ["project (no radiologist)"]
        whole = content["complete_from_mm"] == 8
        assert content["rest"] == ("background" if whole else "unknown")
        assert {one["state"] for one in content["marks"]} <= {"node", "unknown" if whole else "background"}
