import numpy as np
import pytest

from benchmarks.scaling import SeriesSize, SizeMedians, medians, resized, size_table, sizes, slopes


def test_each_series_varies_one_thing():
    own = list(sizes((50, 100), (256,), (1, 2)))
    assert [(s.series, s.slices, s.pixels, s.stretch) for s in own] == [
        ("slices", 50, 512, 1),
        ("slices", 100, 512, 1),
        ("pixels", 100, 256, 1),
        ("extent", 100, 256, 1),
        ("extent", 200, 256, 2),
    ]
    assert own[0].input_bytes == 2 * 50 * 512 * 512


def test_a_finer_grid_covers_the_same_body_and_a_stretch_makes_it_longer(thorax):
    extent = np.array(thorax.shape) * thorax.spacing_mm
    finer = resized(thorax, SeriesSize("slices", 96, 80))
    assert finer.array.dtype == np.int16
    np.testing.assert_allclose(np.array(finer.shape) * finer.spacing_mm, extent)
    corner = finer.affine @ [-0.5, -0.5, -0.5, 1]
    np.testing.assert_allclose(corner, thorax.affine @ [-0.5, -0.5, -0.5, 1])
    assert np.corrcoef(finer.array[::2, :, :].mean(axis=(1, 2)), thorax.array.mean(axis=(1, 2)))[0, 1] > 0.99
    longer = resized(thorax, SeriesSize("extent", 96, 80, 2))
    np.testing.assert_allclose(np.array(longer.shape) * longer.spacing_mm, extent * (2, 1, 1))
    np.testing.assert_array_equal(longer.array, finer.array)


def test_medians_and_what_they_say(make_run):
    size = SeriesSize("slices", 100, 512)
    runs = [make_run("lnq", work, peak_bytes=50 * 2**20 + 3 * size.input_bytes) for work in (4.0, 2.0, 9.0)]
    one = medians(size, runs)
    assert (one.total_s, one.work_s, one.network_s, one.windows) == (5.0, 4.0, 4.0, 4.0)
    assert one.cpu_outside == 0.25
    head, _, line = (row.split(" | ") for row in size_table([one])[:3])
    assert line[head.index("CPU time outside it")] == "25%"
    assert len(line) == len(head)
    assert one.memory_ratio == pytest.approx(3)


def test_a_failed_run_stops_the_series(make_run):
    with pytest.raises(ValueError, match="no memory"):
        medians(SeriesSize("slices", 1, 1), [make_run("lnq", 1.0, error="no memory")])


def test_slopes_are_per_input(make_run):
    results = []
    for size in (SeriesSize("slices", n, 512) for n in (50, 100, 200)):
        mib = size.input_bytes / 2**20
        results.append(SizeMedians(size, 0.0, 2 + mib / 10, 1 + mib / 20, 0.1, 4, 0, 100 + 3 * size.input_bytes))
    assert slopes(results)[0] == (
        "- slices: each 100 MiB of input more add 300 MiB of memory and 10.00 s, of which 5.00 s in the network"
    )
