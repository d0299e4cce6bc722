"""Random patches of prepared cases. Sample number `index` does not depend on the number of loader workers.

One thread makes each sample: augmentation sums over a patch, and the last bits of such sums depend on the number of
threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from lnq.inference.normalise import normalise
from lnq.inference.spec import Normalisation
from training.config import Config
from training.data.augmentation.augment import IntensityTransform, apply_spatial, draw_spatial, source_size
from training.data.augmentation.copy_paste import find_nodes, paste
from training.data.augmentation.corrupt import apply_corruption, draw_corruption
from training.data.node_weights import node_weights
from training.data.prepared import PreparedCase

Sample = dict[str, Tensor]


def normalise_patch(patch_hu: np.ndarray, case: PreparedCase, normalisation: Normalisation) -> np.ndarray:
    """Normalise a patch, [Z, Y, X] in HU, to float32. As in inference, `zscore` is of the whole cropped case."""
    return normalise(patch_hu, normalisation, (case.info.mean_hu, case.info.std_hu))


@dataclass(frozen=True)
class PatchSource:
    """Chooses where patches lie.

    They lie on annotated nodes, where a network was wrong, in the mediastinal region, or anywhere in the crop.
    """

    cases: Sequence[PreparedCase]
    config: Config

    def draw(
        self, rng: np.random.Generator, on: Literal["node", "wrong"] | None = None, full: bool = False
    ) -> tuple[PreparedCase, np.ndarray]:
        """Draw a case and the first voxel (z, y, x) of a patch in it. It is negative only where the case is smaller.

        With `full` the case is a full one, if one of these has such a place.
        """
        patch = np.array(self.config.patch)
        places = [(case, _places(case, on)) for case in self.cases] if on else []
        candidates = [(case, found) for case, found in places if len(found)]
        if candidates:
            if full:
                candidates = [(case, found) for case, found in candidates if case.info.full] or candidates
            case, found = candidates[int(rng.integers(len(candidates)))]
            reach = self.config.sampling.node_jitter * patch
            centre = np.array(found[int(rng.integers(len(found)))]) + rng.uniform(-reach, reach)
        else:
            cases = [case for case in self.cases if case.info.full or not full] or self.cases
            case = cases[int(rng.integers(len(cases)))]
            if self.config.sampling.region and len(case.points):
                centre = case.points[rng.integers(len(case.points))].astype(float)
            else:
                centre = rng.uniform(0, case.info.shape)
        room = np.array(case.info.shape) - patch
        start = np.clip(np.round(centre - patch / 2), 0, np.maximum(room, 0)).astype(int)
        return case, np.where(room < 0, room // 2, start)


def _places(case: PreparedCase, of: Literal["node", "wrong"]) -> Sequence[Any] | np.ndarray:
    """The voxels (z, y, x) of a case's annotated nodes, or where a network was wrong."""
    if of == "node":
        return case.info.node_centres
    return () if case.wrong is None else case.wrong


class PretrainDataset(Dataset[Sample]):
    """Samples `image` (corrupted) and `clean`, both float32 [1, Z, Y, X]."""

    def __init__(self, cases: Sequence[PreparedCase], config: Config, normalisation: Normalisation) -> None:
        self.source = PatchSource(cases, config)
        self.normalisation = normalisation

    def __getitem__(self, index: int) -> Sample:
        config = self.source.config
        rng = np.random.default_rng([config.seed, 1, index])
        case, start = self.source.draw(rng)
        patch = normalise_patch(case.box("image", start, config.patch), case, self.normalisation)
        corrupted, clean = apply_corruption(patch, draw_corruption(config.patch, rng))
        return {"image": torch.from_numpy(corrupted)[None], "clean": torch.from_numpy(clean)[None]}


NODE, BACKGROUND = 1, 2
"""Values of a sample's label. 0 is unknown, or with `losses.trust` "none" all that is not annotated."""


class FinetuneDataset(Dataset[Sample]):
    """Samples `image` float32 [1, Z, Y, X], `label` uint8 [Z, Y, X] and `full` (bool: every node is annotated).

    With `losses.small_node_mm` they have `weight` too, float32 [Z, Y, X]: how much each voxel counts.
    Raises ValueError where nodes are to be copied and none can be, or full cases to be preferred and there is none.
    """

    def __init__(self, cases: Sequence[PreparedCase], config: Config, normalisation: Normalisation) -> None:
        self.source = PatchSource(cases, config)
        self.normalisation = normalisation
        self.change_intensity = IntensityTransform(config.augmentation)
        if config.sampling.full_share and not any(case.info.full for case in cases):
            raise ValueError("sampling.full_share needs cases that are annotated wholly, and there is none")
        self.nodes = find_nodes(cases) if config.augmentation.copies else []
        if config.augmentation.copies and not self.nodes:
            raise ValueError("augmentation.copies needs an annotated node that is large enough, and there is none")

    def __getitem__(self, index: int) -> Sample:
        config = self.source.config
        rng = np.random.default_rng([config.seed, 2, index])
        full = config.sampling.full_share > 0 and rng.random() < config.sampling.full_share
        case, start = self.source.draw(rng, config.sampling.kind_of(index), full)
        spatial = draw_spatial(config.augmentation, case.info.spacing_mm, rng)
        size = source_size(spatial, config.patch)
        start = start - (np.array(size) - config.patch) // 2
        hu, annotated = case.box("image", start, size), case.box("label", start, size)
        if self.nodes:
            region = case.box("region", start, size)
            hu, annotated = paste(hu, annotated, region, self.nodes, config.augmentation.copies, rng)
        box = normalise_patch(hu, case, self.normalisation)
        label = torch.from_numpy(np.ascontiguousarray(annotated))
        if config.losses.trust == "certain":
            certain = torch.from_numpy(np.ascontiguousarray(case.box("certain", start, size)))
            label = torch.where(label > 0, NODE, certain * BACKGROUND)
        with one_thread(), global_seed(int(rng.integers(2**32))):
            image, label = apply_spatial(torch.from_numpy(box), label, spatial, config.patch)
            image = self.change_intensity(image[None])
        sample = {"image": image, "label": label, "full": torch.tensor(case.info.full)}
        if config.losses.small_node_mm:
            node = (label == NODE).numpy()
            weights = node_weights(node, case.info.spacing_mm, config.losses.small_node_mm)
            sample["weight"] = torch.from_numpy(weights)
        return sample


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Seed PyTorch's and NumPy's global generators, which batchgeneratorsv2 draws from, and restore them after."""
    before = np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(before)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch compute with one thread, as in loader workers, and restore the number of threads after."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class StepSampler(Sampler[list[int]]):
    """Batches of sample numbers for the steps that remain; each process takes its part of every step."""

    def __init__(self, first_step: int, steps: int, batch: int, rank: int = 0, processes: int = 1) -> None:
        self.steps = range(first_step, steps)
        self.batch, self.rank, self.processes = batch, rank, processes

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            first = (step * self.processes + self.rank) * self.batch
            yield list(range(first, first + self.batch))

    def __len__(self) -> int:
        return len(self.steps)
