import pytest

from lnq.inference.spec import ModelSpec, NetworkSpec, Normalisation


def test_operations_are_those_counted_by_hand():
    pytest.importorskip("torch")
    from benchmarks.arithmetic import count_operations

    network = NetworkSpec(channels=(4, 8), kernels=((1, 3, 3), (3, 3, 3)), strides=((1, 2, 2),), dropout=(0.0, 0.0))
    fine, coarse = 4 * 8 * 8, 4 * 4 * 4  # voxels of a window, and after the stride
    products = fine * (1 * 4 * 9 + 4 * 4 * 9 + 1 * 4)  # first block: two convolutions and the shortcut
    products += coarse * 4 * 8 * 4  # down, 1 x 2 x 2
    products += coarse * 2 * 8 * 8 * 27  # second block
    products += coarse * 8 * 4 * 4  # up: each coarse voxel to 4 fine ones
    products += fine * (8 * 4 * 9 + 4 * 4 * 9)  # the decoder's block
    products += fine * 4 * 2  # head
    spec = ModelSpec(network, (4, 8, 8), (1.0, 1.0, 1.0), Normalisation())
    assert count_operations(spec) == 2 * products


def test_the_rate_is_held_against_the_faster_product():
    pytest.importorskip("torch")
    from benchmarks.arithmetic import rates

    times = {"window": [1.0, 2.0, 9.0], "torch": [1.0, 1.0, 1.0], "numpy": [4.0, 4.0, 4.0]}
    text = "\n".join(rates(8 * 10**9, 1000, times))
    assert "| a window | 8.0 G | 2.0000 | 4.0 GFLOP/s |" in text
    assert "reaches 2.00 of the matrix product's rate by torch" in text
