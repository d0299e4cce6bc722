from __future__ import annotations

import pytest
from helpers.shown_cases import marked, measured, shown, source

from training.dataset_page.cases import ShownCase
from training.dataset_page.figures import figure_groups, has_contrast, histogram, histograms, nodes_of


def texts(cases: list[ShownCase], left_out: int = 0) -> dict[str, str]:
    return {figure.name: figure.text for group in figure_groups(cases, left_out) for figure in group.figures}


CASES = [
    shown("a", measured(nodes=(marked(), marked(side="right", above_carina_mm=-8.0))), patient="Smith"),
    shown(
        "b",
        measured(
            nodes=(marked(side=None, above_carina_mm=None),),
            blood_hu=45.0,
            source=source(short_axes_mm=(12.0, 16.0), volumes_mm3=(1000.0, 2000.0), spacing_mm=(5.0, 0.7, 0.7)),
        ),
        "test",
        full=True,
        patient="Smith",
        node_volumes_mm3=(1000.0, 2000.0),
    ),
    shown("c", measured(blood_hu=None, source=None), "", told=True),
]


def test_figures_describe_the_set() -> None:
    found = texts(CASES, left_out=2)
    assert found["cases"] == "3" and found["patients"] == "2" and found["left out"] == "2"
    assert found["annotated in part"] == found["annotated in full"] == found["with unknown voxels"] == "1"
    assert found["for training"] == found["for test"] == found["without a split"] == "1"
    assert found["nodes annotated"] == "4" and found["nodes per case: median (1 to 2)"] == "1"
    assert found["short axis: median (9.0 to 16.0)"] == "12.0 mm"
    assert found["nodes ≥ 10 mm"] == "2" and found["nodes ≥ 15 mm"] == "1"
    assert found["volume of a node: median (0.90 to 2.00)"] == "0.95 cm³"
    assert found["of the region certain background, in partial cases"] == "80%"
    assert (found["above the carina"], found["below it"], found["carina not found"]) == ("2", "1", "1")
    assert (found["right"], found["middle"], found["left"], found["side not known"]) == ("1", "0", "2", "1")
    assert (found["with contrast medium"], found["without"], found["contrast not known"]) == ("1", "1", "1")
    assert found["between slices: median (2.50 to 5.00)"] == "3.75 mm"
    assert found["field of view across"] == "350 mm"  # all alike


def test_a_set_without_measurements_has_figures_too() -> None:
    case = ShownCase(shown().folder, shown().info, None, None, "train")
    found = texts([case])
    assert found["cases"] == "1" and found["nodes annotated"] == "1" and found["contrast not known"] == "1"
    assert nodes_of(case) == 1 and has_contrast(case) is None
    assert [one.title for one in histograms([case])] == ["Volume, from cm³", "Nodes per case, from"]


@pytest.mark.parametrize(("blood_hu", "said"), [(84.9, False), (85.0, True), (None, None)])
def test_contrast_medium_is_judged_by_blood(blood_hu: float | None, said: bool | None) -> None:
    assert has_contrast(shown("a", measured(blood_hu=blood_hu))) is said


def test_a_histogram_takes_values_beyond_its_limits() -> None:
    found = histogram("x", [-5.0, 0.0, 0.99, 1.0, 2.0, 7.5, 100.0], (0.0, 1.0, 2.0, 7.5))
    assert [(bar.name, bar.count) for bar in found.bars] == [("< 1", 3), ("1", 1), ("2", 1), ("≥ 7.5", 2)]
    assert [bar.share for bar in found.bars] == pytest.approx([1.0, 1 / 3, 1 / 3, 2 / 3])


def test_histograms_show_sizes_places_and_numbers() -> None:
    counts = {one.title: {bar.name: bar.count for bar in one.bars if bar.count} for one in histograms(CASES)}
    assert counts["Short axis, from mm"] == {"8": 1, "12": 1, "15": 1}
    assert counts["Above the carina, from mm"] == {"−20": 1, "0": 2}
    assert counts["Nodes per case, from"] == {"1": 2, "2": 1}
