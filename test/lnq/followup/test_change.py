"""Changes and sums by hand."""

from __future__ import annotations

import pytest
from helpers.rows import row, tracks

from lnq.followup.change import (
    Size,
    changes_of,
    choose_targets,
    difference,
    pass_on,
    sum_after_mm,
    sum_of_short_axes_mm,
)
from lnq.followup.match import Match

EARLIER = [row(1, 22.0, 30.0, 4000.0, "4R"), row(2, 16.0, 20.0, 2000.0, "7"), row(3, 15.0, 18.0, 1500.0, "7"),
           row(4, 8.0, 9.0, 300.0, "10L")]  # fmt: skip
LATER = [row(1, 11.0, 15.0, 1000.0, "4R"), row(2, 9.0, 12.0, 600.0, "4R"), row(3, 18.0, 25.0, 3800.0, "7"),
         row(4, 5.0, 6.0, 100.0, None)]  # fmt: skip
MATCHES = [Match((1,), (1, 2)), Match((2, 3), (3,)), Match((), (4,)), Match((4,), ())]
UIDS = tracks("a", 1, 2, 3, 4), tracks("b", 1, 2, 3, 4)


def test_the_largest_two_nodes_from_15_mm_are_targets():
    assert choose_targets(EARLIER, UIDS[0]) == ("a1", "a2")
    assert choose_targets(EARLIER[2:], UIDS[0]) == ("a3",)
    assert choose_targets([row(1, 14.9, 20.0, 900.0)], UIDS[0]) == ()


def test_changes_by_hand():
    split, merged, new, gone = changes_of(MATCHES, (EARLIER, LATER), UIDS, ("a1", "a2"))
    assert (split.state, split.uid, split.is_target) == ("split", "b1", True)
    assert split.before == Size(22.0, 30.0, 4000.0) and split.after == Size(11.0, 15.0, 1600.0)
    assert split.difference("short_axis_mm") == (-11.0, -50.0)
    assert split.difference("volume_mm3") == (-2400.0, -60.0)
    assert (merged.state, merged.uid, merged.station, merged.is_target) == ("merged", "b3", "7", True)
    assert merged.before == Size(16.0, 20.0, 3500.0) and merged.difference("long_axis_mm") == (5.0, 25.0)
    assert (new.state, new.before, new.is_target) == ("new", None, False) and new.difference("volume_mm3") is None
    assert (gone.state, gone.uid, gone.after, gone.station) == ("gone", "a4", None, "10L")


def test_the_sum_counts_merged_targets_once_and_each_part_of_a_split_one():
    """1 was split into 11 and 9 mm, and 2 merged with 3 into a node of 18 mm."""
    assert sum_of_short_axes_mm(EARLIER, UIDS[0], ("a1", "a2")) == 38.0
    passed = pass_on(changes_of(MATCHES, (EARLIER, LATER), UIDS, ("a1", "a2")), UIDS[1])
    assert passed == ("b1", "b2", "b3")
    assert sum_of_short_axes_mm(LATER, UIDS[1], passed) == 38.0


def test_a_target_that_is_gone_counts_nothing():
    changes = changes_of([Match((1,), ())], (EARLIER[:1], []), UIDS, ("a1",))
    assert pass_on(changes, {}) == () and sum_of_short_axes_mm([], {}, ()) == 0.0


@pytest.mark.parametrize(
    ("before", "after", "wanted"), [(20.0, 15.0, (-5.0, -25.0)), (0.0, 5.0, (5.0, None)), (3.0, 3.0, (0.0, 0.0))]
)
def test_a_difference_is_rounded_and_has_a_percentage_of_something(before, after, wanted):
    assert difference(before, after) == wanted


def test_a_target_beyond_the_later_ct_leaves_no_sum():
    changes = changes_of([Match((1,), (), True)], (EARLIER[:1], []), UIDS, ("a1",))
    assert changes[0].state == "outside" and sum_after_mm(changes, [], {}) is None
    others = changes_of([Match((1,), (), True)], (EARLIER[:1], []), UIDS, ())
    assert sum_after_mm(others, [], {}) == 0.0


def test_names_are_those_of_all_nodes():
    split, merged, *_ = changes_of(MATCHES, (EARLIER, LATER), UIDS, ())
    assert (split.earlier_names, split.later_names) == (("Lymph node 1",), ("Lymph node 1", "Lymph node 2"))
    assert merged.earlier_names == ("Lymph node 2", "Lymph node 3")


def test_no_nodes_have_no_size():
    assert Size.of([]) is None
