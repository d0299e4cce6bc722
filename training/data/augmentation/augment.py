"""Augmentation of fine-tuning patches: an affine map in physical space, mirroring, and intensity changes.

The intensity part is batchgeneratorsv2's, with nnU-Net's ranges and probabilities or, with `strong`, wider ones.
Its spatial transform rotates in voxels, which shears anisotropic images, so rotation and scaling are done here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from batchgeneratorsv2.transforms.intensity.brightness import (
    BrightnessAdditiveTransform,
    MultiplicativeBrightnessTransform,
)
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from torch import Tensor

from lnq.inference.spec import IntTriple, Triple
from training.config import Augmentation


@dataclass(frozen=True, eq=False)
class SpatialChange:
    """Where a patch's voxels are read: at their offset from the centre times `matrix` (None: the identity).

    The patch is then flipped.
    """

    matrix: np.ndarray | None  # [3, 3], in voxels
    flips: tuple[int, ...]  # axes


def draw_spatial(settings: Augmentation, spacing_mm: Triple, rng: np.random.Generator) -> SpatialChange:
    """Draw a rotation about each axis, one scale for all, and mirroring, each with its probability in `settings`."""
    rotate, scale = rng.random() < settings.p_rotation, rng.random() < settings.p_scaling
    flips = tuple(int(axis) for axis in range(3) if settings.mirror[axis] and rng.random() < 0.5)
    if not (rotate or scale):
        return SpatialChange(None, flips)
    physical = np.eye(3)
    if rotate:
        limit = np.deg2rad(settings.rotation_deg)
        for axis, angle in enumerate(rng.uniform(-limit, limit, 3)):
            physical = physical @ _rotation(axis, angle)
    if scale:
        physical = physical / rng.uniform(*settings.scaling)  # a patch enlarged twice reads half as far out
    spacing = np.diag(spacing_mm)
    return SpatialChange(np.linalg.inv(spacing) @ physical @ spacing, flips)


def _rotation(axis: int, angle: float) -> np.ndarray:
    matrix = np.eye(3)
    i, j = [a for a in range(3) if a != axis]
    matrix[i, i] = matrix[j, j] = np.cos(angle)
    matrix[i, j], matrix[j, i] = -np.sin(angle), np.sin(angle)
    return matrix


def source_size(change: SpatialChange, patch: IntTriple) -> IntTriple:
    """Size (z, y, x) of the box around the patch's centre that `apply_spatial` reads.

    Each side is odd where the patch's is, so that both have one centre.
    """
    if change.matrix is None:
        return patch
    half = np.abs(change.matrix) @ (np.array(patch) - 1) / 2
    margin = np.maximum(np.ceil(half - (np.array(patch) - 1) / 2).astype(int) + 1, 0)
    size = np.array(patch) + 2 * margin
    return (int(size[0]), int(size[1]), int(size[2]))


def apply_spatial(image: Tensor, label: Tensor, change: SpatialChange, patch: IntTriple) -> tuple[Tensor, Tensor]:
    """Read the patch from a box of `source_size`: `image` and `label`, both [Z, Y, X], with linear interpolation.

    A voxel has a value of the label above 0 where that value's indicator, interpolated, is above 0.5.
    """
    if change.matrix is not None:
        size = np.array(image.shape)
        # grid_sample takes coordinates in the order x, y, z, in half widths of the box
        to_grid = np.diag(2.0 / size)[::-1]
        theta = to_grid @ change.matrix @ np.diag(np.array(patch) / 2.0)[:, ::-1]
        matrix = torch.from_numpy(np.hstack([theta, np.zeros((3, 1))])).float()[None]
        grid = F.affine_grid(matrix, [1, 1, *patch], align_corners=False)
        values = [value for value in label.unique().tolist() if value > 0]
        indicators = [(label == value).to(image.dtype) for value in values]
        every = torch.stack([image, *indicators])[None]  # [1, C, Z, Y, X]
        image, *indicators = F.grid_sample(every, grid, padding_mode="border", align_corners=False)[0]
        label = label.new_zeros(patch)
        for value, indicator in zip(values, indicators, strict=True):
            label[indicator > 0.5] = value
    if change.flips:
        image, label = image.flip(change.flips), label.flip(change.flips)
    return image, label


class IntensityTransform:
    """Change the intensities of a float patch [1, Z, Y, X] in normalised units; draws from the global generators.

    It can be pickled, which loader processes need where they are spawned, not forked.
    """

    def __init__(self, settings: Augmentation) -> None:
        self.transforms = ComposeTransforms(_strong() if settings.strong else _nnunet())

    def __call__(self, image: Tensor) -> Tensor:
        changed: Tensor = self.transforms(image=image.clone())["image"]
        return changed


def _nnunet() -> list[RandomTransform]:
    """nnU-Net's list, ranges and probabilities."""
    contrast = BGContrast((0.75, 1.25))
    return [
        RandomTransform(GaussianNoiseTransform((0, 0.1), 1, True), 0.1),
        RandomTransform(GaussianBlurTransform((0.5, 1.0), False, False, 1), 0.1),  # p 0.2, half of the channels
        RandomTransform(MultiplicativeBrightnessTransform(contrast, False), 0.15),
        RandomTransform(ContrastTransform(contrast, True, False), 0.15),
        RandomTransform(SimulateLowResolutionTransform((0.5, 1), False, True, None), 0.125),
        RandomTransform(GammaTransform(BGContrast((0.7, 1.5)), 1, False, 1, 1), 0.1),
        RandomTransform(GammaTransform(BGContrast((0.7, 1.5)), 0, False, 1, 1), 0.3),
    ]


def _strong() -> list[RandomTransform]:
    """Wider ranges: contrast phase, kernel and noise differ more between scanners than between phantoms."""
    wide = BGContrast((0.6, 1.6))
    gamma = BGContrast((0.6, 1.7))
    return [
        RandomTransform(BrightnessAdditiveTransform(0.0, 0.5, False), 0.4),
        RandomTransform(MultiplicativeBrightnessTransform(wide, False), 0.3),
        RandomTransform(ContrastTransform(wide, False, False), 0.4),
        RandomTransform(GammaTransform(gamma, 1, False, 1, 1), 0.1),
        RandomTransform(GammaTransform(gamma, 0, False, 1, 1), 0.3),
        RandomTransform(GaussianBlurTransform((0.4, 1.2), False, False, 1), 0.3),
        RandomTransform(SimulateLowResolutionTransform((0.5, 1), False, False, None), 0.2),
        RandomTransform(GaussianNoiseTransform((0, 0.4), 1, True), 0.4),
    ]
