from benchmarks.inserted_table import InsertedCase, InsertedScore, Mark, row_of, rows_of


def scored(threshold, found, others=(), sizes=(5.0, 9.0, 20.0)):
    return InsertedScore((threshold, 0.0), sizes, found, 0.5, tuple(others))


def test_a_row_counts_nodes_by_size_and_other_marks_by_size_and_place():
    low, large = Mark(4.0, -40.1), Mark(10.0, -40.0)
    unknown = Mark(9.9, None)
    one = scored(0.4, (True, False, True), (low, large))
    two = scored(0.4, (False, False, True), (unknown,))
    assert row_of("model", (one, two)) == (
        "model", "0.4", "0", "50 % of 2", "0 % of 2", "100 % of 2", "0.50", "1.5", "0.5", "0.5",
    )  # fmt: skip


def test_a_bundle_is_also_shown_where_it_finds_most_with_few_other_marks():
    """Four other marks are too many. Of those with three and with none, the first finds more."""
    marks = (Mark(5.0, 0.0),) * 4
    scores = (scored(0.1, (True,) * 3, marks), scored(0.2, (True, True, False), marks[1:]), scored(0.5, (False,) * 3))
    for order in (scores, scores[::-1]):
        rows = rows_of("m", [InsertedCase("a", "x", order)], (0.5, 0.0))
        assert [row[:3] for row in rows] == [("m", "0.5", "0"), ("m, at most 3.5 other marks", "0.2", "0")]
        assert [row[5] for row in rows] == ["0 % of 1", "0 % of 1"] and rows[1][4] == "100 % of 1"
