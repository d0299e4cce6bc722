from __future__ import annotations

from typing import Any

import pytest
from helpers.shown_cases import marked, measured, shift, shown, source

from training.data.measures.record import CaseMeasures, Shift, Sliver
from training.dataset_page.cases import ShownCase
from training.dataset_page.suspicions import KINDS, find_suspicions, is_shifted

MOVED: dict[str, Any] = {
    "best_mm": (3.0, -1.5, -4.5), "edge_hu": 10.0, "best_edge_hu": 90.0, "soft": 0.4, "best_soft": 0.95, "agreeing": 1.0
}  # fmt: skip
SLIVER = Sliver(((5, 10, 9), (6, 15, 12)), 2.5, 9.0, 14.0)


def kinds(case: ShownCase) -> list[str]:
    return [one.kind for one in find_suspicions([case])]


def text_of(measures: CaseMeasures, **others: Any) -> str:
    (one,) = find_suspicions([shown("a", measures, **others)])
    return one.text


def test_a_clean_case_raises_none() -> None:
    sloppy = marked(air=0.3, bright=0.2, bright_hu=200.0, outside=0.4)
    assert kinds(shown("a", measured(nodes=(marked(), sloppy)))) == []
    assert find_suspicions([ShownCase(shown().folder, shown().info, None, None, "")]) == []


@pytest.mark.parametrize(
    ("changes", "blood_hu", "kind", "text"),
    [
        ({"air": 0.5}, 150.0, "air", "50% of a node of 0.90 cm³ has the HU of air or lung (below −200 HU)."),
        (
            {"bright": 0.8, "bright_hu": 310.0, "bright_spread_hu": 90.0},
            160.0,
            "bone",
            "80% of a node of 0.90 cm³ is as bright as bone: 310 ± 90 HU, where this CT's blood has about 160 HU.",
        ),
        (
            {"bright": 0.8, "bright_hu": 190.0, "bright_spread_hu": 9.0},
            45.0,  # without contrast medium nothing but bone and calcium is bright
            "bone",
            "80% of a node of 0.90 cm³ is as bright as bone: 190 ± 9 HU, where this CT's blood has about 45 HU.",
        ),
        (
            {"bright": 0.9, "bright_hu": 280.0, "bright_spread_hu": 12.0},
            290.0,
            "vessel",
            "90% of a node of 0.90 cm³ is as bright and even as blood with contrast medium: 280 ± 12 HU, where this "
            "CT's blood has about 290 HU.",
        ),
        ({"outside": 0.75}, 150.0, "outside", "75% of a node of 0.90 cm³ lies outside the mediastinal region."),
    ],
)
def test_a_node_in_the_wrong_tissue(changes: dict[str, float], blood_hu: float, kind: str, text: str) -> None:
    measures = measured(nodes=(marked(), marked(**changes)), blood_hu=blood_hu)
    assert kinds(shown("a", measures)) == [kind]
    assert text_of(measures) == text
    several = measured(nodes=(marked(**changes), *[marked(volume_mm3=500.0 + n, **changes) for n in range(2)]))
    assert text_of(dataclass_with(several, blood_hu)).endswith("So do 2 more nodes.")
    tiny = measured(nodes=(marked(volume_mm3=40.0, **changes),), blood_hu=blood_hu)
    assert kinds(shown("a", tiny)) == []


def dataclass_with(measures: CaseMeasures, blood_hu: float) -> CaseMeasures:
    return measured(nodes=measures.nodes, blood_hu=blood_hu)


def test_a_node_in_lung_is_not_told_again_as_outside() -> None:
    assert kinds(shown("a", measured(nodes=(marked(air=1.0, outside=1.0),)))) == ["air"]
    both = measured(nodes=(marked(air=1.0, outside=1.0), marked(outside=1.0)))
    assert kinds(shown("a", both)) == ["air", "outside"]


def test_an_annotation_that_the_crop_cuts_off() -> None:
    assert text_of(measured(), label_lost=0.2) == (
        "20% of the annotation lies outside the box around the lungs, and is lost."
    )
    assert kinds(shown("a", label_lost=0.05)) == []


def test_slivers_are_told_with_the_widest() -> None:
    small = Sliver(SLIVER.box, 2.5, 7.0, 8.0)
    found = text_of(measured(source=source(slivers=(small, SLIVER))))
    assert found == "A piece of 14 × 9 mm lies in a single slice of 2.5 mm in the source's label. So does 1 more piece."


def test_a_shift_is_told_in_the_patients_directions() -> None:
    assert text_of(measured(nodes=(marked(),) * 3, shift=shift(**MOVED))) == (
        "The label would fit better 3 mm up and 1.5 mm to the front and 4.5 mm to the right: the HU inside would "
        "exceed those around by 90 instead of 10, and 95% instead of 40% of it would be soft tissue."
    )


@pytest.mark.parametrize(
    ("changes", "nodes", "said"),
    [
        ({}, 3, True),
        ({}, 1, True),
        ({"best_mm": (0.0, 1.5, 1.5)}, 3, False),  # as borders that are off
        ({"best_mm": (9.0, 6.0, 0.0)}, 3, True),
        ({"best_mm": (9.0, 6.0, 0.0)}, 2, False),  # another node
        ({"edge_hu": 50.0}, 3, True),
        ({"edge_hu": 50.0}, 2, False),
        ({"edge_hu": 70.0}, 3, False),
        ({"edge_hu": 0.0, "best_edge_hu": 25.0}, 3, False),  # no edge anywhere
        ({"soft": 1.0}, 3, False),  # a label that is drawn too tight
        ({"best_soft": 0.6}, 3, False),
        ({"agreeing": 0.5}, 3, False),  # one large node alone
    ],
)
def test_when_a_label_counts_as_shifted(changes: dict[str, Any], nodes: int, said: bool) -> None:
    moved: Shift = shift(**MOVED | changes)
    assert is_shifted(moved, nodes) == said


def test_suspicions_come_by_kind_and_the_most_striking_first() -> None:
    cases = [
        shown("a", measured(nodes=(marked(air=0.5),), source=source(slivers=(SLIVER,)))),
        shown("b", measured(nodes=(marked(air=0.9),))),
    ]
    assert [(one.kind, one.case.name) for one in find_suspicions(cases)] == [
        ("air", "b"),
        ("air", "a"),
        ("sliver", "a"),
    ]
    assert len({kind.key for kind in KINDS}) == len(KINDS) == 7
