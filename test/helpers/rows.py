"""Rows of tables of nodes, their tracks, and a comparison."""

from __future__ import annotations

from lnq.followup.change import Change, Size
from lnq.followup.comparison import Compared, FollowUp, TargetSum
from lnq.results.dicom_common import Track
from lnq.results.node_table import NodeRow

CHANGES = (
    Change("Lymph node 2", "1.2", "merged", (2, 3), (1,), ("Lymph node 2", "Lymph node 3"), ("Lymph node 2",), "7",
           True, Size(15.0, 20.0, 3000.0), Size(18.0, 25.0, 3300.0)),
    Change("=1+1", "1.3", "new", (), (2,), (), ("=1+1",), None, False, None, Size(5.0, 6.0, 100.0)),
    Change("Lymph node 1", "1.1", "gone", (1,), (), ("Lymph node 1",), (), "4R", False, Size(8.0, 9.0, 300.0), None),
)  # fmt: skip
FOLLOW_UP = FollowUp(
    earlier=Compared("/results/first", "first", "2026-01-05", "a" * 64),
    later=Compared("cases/later", "later", None, "b" * 64),
    first="a" * 64,
    overlap=0.93,
    changes=CHANGES,
    tracks=(Track("Lymph node 2", "1.2"), Track("Lymph node 4", "1.3")),
    used=("Lymph node 1", "Lymph node 2", "Lymph node 3", "Lymph node 4"),
    targets=("1.2",),
    sums=(TargetSum("2026-01-05", 15.0), TargetSum("later", 18.0)),
    warnings=("Mind this.",),
)


def row(
    number: int,
    short_mm: float,
    long_mm: float,
    volume_mm3: float,
    station: str | None = None,
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> NodeRow:
    """A node of a size."""
    return NodeRow(
        "chest", number, volume_mm3, short_mm, long_mm, long_mm + 1, "", 40.0, 0.75, *centre, "left", 5.0, station
    )


def tracks(prefix: str, *numbers: int) -> dict[int, Track]:
    """The tracks of these numbers: UIDs `a1` and so on."""
    return {number: Track(f"Lymph node {number}", f"{prefix}{number}") for number in numbers}
