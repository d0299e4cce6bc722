from __future__ import annotations

import numpy as np
import pytest
import torch

from training.config import Augmentation
from training.data.augmentation.augment import (
    IntensityTransform,
    SpatialChange,
    apply_spatial,
    draw_spatial,
    source_size,
)
from training.data.dataset import global_seed

PATCH = (6, 9, 10)


def centred(box: torch.Tensor) -> torch.Tensor:
    """The middle of a box, of the patch's size."""
    cuts = [(b - p) // 2 for b, p in zip(box.shape, PATCH, strict=True)]
    return box[tuple(slice(c, c + p) for c, p in zip(cuts, PATCH, strict=True))]


def test_identity_matrix_cuts_out_the_middle() -> None:
    change = SpatialChange(np.eye(3), ())
    box = torch.randn(source_size(change, PATCH))
    image, label = apply_spatial(box, (box > 0).to(torch.uint8), change, PATCH)
    assert torch.allclose(image, centred(box), atol=1e-5)
    assert torch.equal(label, centred(box > 0).to(torch.uint8))


def test_quarter_turn_moves_every_voxel_where_it_belongs() -> None:
    turn = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], dtype=float)
    change, patch = SpatialChange(turn, ()), (3, 5, 7)
    size = source_size(change, patch)
    assert all(s >= p for s, p in zip(size, (3, 7, 5), strict=True))
    box = torch.randn(size)
    image, _ = apply_spatial(box, (box > 0).to(torch.uint8), change, patch)
    for index in np.ndindex(*patch):
        there = (np.array(size) - 1) / 2 + turn @ (np.array(index) - (np.array(patch) - 1) / 2)
        z, y, x = np.round(there).astype(int)
        assert image[index] == pytest.approx(box[z, y, x].item(), abs=1e-4)


def test_mirroring_flips_image_and_label_alike() -> None:
    box = torch.randn(PATCH)
    image, label = apply_spatial(box, (box > 0).to(torch.uint8), SpatialChange(None, (0, 2)), PATCH)
    assert torch.equal(image, box.flip(0, 2)) and torch.equal(label, (box.flip(0, 2) > 0).to(torch.uint8))


def test_rotation_is_rigid_in_millimetres() -> None:
    settings, spacing = Augmentation(p_rotation=1.0, p_scaling=0.0), np.diag((3.0, 0.8, 0.8))
    for seed in range(20):
        matrix = draw_spatial(settings, (3.0, 0.8, 0.8), np.random.default_rng(seed)).matrix
        assert matrix is not None
        physical = spacing @ matrix @ np.linalg.inv(spacing)
        assert np.allclose(physical @ physical.T, np.eye(3), atol=1e-12)


def test_scaling_up_reads_a_smaller_part() -> None:
    settings = Augmentation(p_rotation=0.0, p_scaling=1.0, scaling=(1.4, 1.4))
    change = draw_spatial(settings, (3.0, 0.8, 0.8), np.random.default_rng(0))
    assert change.matrix is not None and np.allclose(change.matrix, np.eye(3) / 1.4)


def test_spatial_changes_come_as_often_as_asked() -> None:
    rng = np.random.default_rng(0)
    changes = [draw_spatial(Augmentation(), (3.0, 0.8, 0.8), rng) for _ in range(1000)]
    assert np.mean([c.matrix is not None for c in changes]) == pytest.approx(1 - 0.8 * 0.8, abs=0.05)
    for axis in range(3):
        assert np.mean([axis in c.flips for c in changes]) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("strong", [False, True])
def test_intensity_changes_are_finite_repeatable_and_leave_the_input(strong: bool) -> None:
    change = IntensityTransform(Augmentation(strong=strong))
    image = torch.randn(1, *PATCH)
    before, changed = image.clone(), 0
    for seed in range(40):
        with global_seed(seed):
            out = change(image)
        with global_seed(seed):
            assert torch.equal(change(image), out)
        assert out.shape == image.shape and torch.isfinite(out).all()
        changed += not torch.equal(out, image)
    assert torch.equal(image, before)
    assert changed >= (30 if strong else 15)


def test_global_seed_restores_the_generators() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    wanted = torch.rand(1).item(), np.random.rand()
    torch.manual_seed(1)
    np.random.seed(1)
    with global_seed(5):
        torch.rand(3), np.random.rand(3)
    assert (torch.rand(1).item(), np.random.rand()) == wanted
