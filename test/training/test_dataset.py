from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from lnq.normalise import normalise
from lnq.spec import Normalisation
from training.cases import PreparedCase, case_folders, read_dataset_info
from training.config import TINY, Config, Sampling
from training.dataset import FinetuneDataset, PatchSource, PretrainDataset, StepSampler, normalise_patch

CT = Normalisation("ct", clip_hu=(-140.0, 120.0), mean=60.0, std=40.0)


def cases_of(data: Path, cache: bool = True) -> list[PreparedCase]:
    return [PreparedCase(folder, cache) for folder in case_folders(data)]


def with_region(config: Config, region: bool) -> Config:
    return dataclasses.replace(config, sampling=Sampling(region=region))


@pytest.mark.parametrize("cache", [True, False])
def test_box_beyond_the_case_is_air_and_background(prepared: Path, cache: bool) -> None:
    case = cases_of(prepared, cache)[0]
    whole = case.whole("image")
    box = case.box("image", (-2, 20, 5), (4, 8, 6))
    assert (box[:2] == -1024).all() and (box[:, 4:] == -1024).all()
    assert np.array_equal(box[2:, :4], whole[:2, 20:24, 5:11])
    assert not case.box("label", (-2, 20, 5), (4, 8, 6)).any()
    assert (case.box("image", (50, 0, 0), (4, 8, 6)) == -1024).all()


@pytest.mark.parametrize("normalisation", [CT, Normalisation("zscore")], ids=["ct", "zscore"])
def test_patches_are_normalised_as_inference_does(prepared: Path, normalisation: Normalisation) -> None:
    case = cases_of(prepared)[0]
    whole = normalise(case.whole("image").astype(np.float32), normalisation)
    patch = normalise_patch(case.box("image", (1, 2, 3), (4, 8, 6)), case, normalisation)
    assert np.allclose(patch, whole[1:5, 2:10, 3:9], atol=2e-3)  # the case's statistics are of unrounded HU


@pytest.mark.parametrize("dataset", [FinetuneDataset, PretrainDataset])
@pytest.mark.parametrize("workers", [1, 2])
def test_samples_do_not_depend_on_the_number_of_workers(prepared: Path, dataset: type, workers: int) -> None:
    data = dataset(cases_of(prepared), TINY, CT)

    def load(count: int) -> list[dict[str, torch.Tensor]]:
        return list(DataLoader(data, batch_sampler=StepSampler(0, 4, 2), num_workers=count))

    for alone, beside in zip(load(0), load(workers), strict=True):
        assert all(torch.equal(alone[name], beside[name]) for name in alone)


def test_loading_leaves_the_global_generator_alone(prepared: Path) -> None:
    data = FinetuneDataset(cases_of(prepared), TINY, CT)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for index in range(5):
        data[index]
    assert torch.equal(before, torch.get_rng_state())


def test_every_third_sample_shows_an_annotated_node(prepared: Path) -> None:
    plain = dataclasses.replace(TINY.augmentation, p_rotation=0.0, p_scaling=0.0)
    data = FinetuneDataset(cases_of(prepared), dataclasses.replace(TINY, augmentation=plain), CT)
    for index in range(2, 60, 3):
        assert data[index]["label"].any(), index


def test_samples_have_shapes_and_types(prepared: Path) -> None:
    sample = FinetuneDataset(cases_of(prepared), TINY, CT)[0]
    assert sample["image"].shape == (1, *TINY.patch) and sample["image"].dtype == torch.float32
    assert sample["label"].shape == TINY.patch and sample["label"].dtype == torch.uint8
    assert sample["full"].dtype == torch.bool
    sample = PretrainDataset(cases_of(prepared), TINY, CT)[0]
    assert sample["image"].shape == sample["clean"].shape == (1, *TINY.patch)
    assert sample["image"].dtype == sample["clean"].dtype == torch.float32


def test_region_samples_are_centred_in_the_region(prepared: Path) -> None:
    cases = cases_of(prepared)
    source = PatchSource(cases, dataclasses.replace(with_region(TINY, True), patch=(4, 4, 4)))
    rng = np.random.default_rng(0)
    for _ in range(100):
        case, start = source.draw(rng, on_node=False)
        z, y, x = start + 2
        assert case.whole("region")[max(0, z - 1) : z + 1, y - 1 : y + 1, x - 1 : x + 1].any()


def test_patches_stay_inside_where_the_case_is_large_enough(prepared: Path) -> None:
    source, rng = PatchSource(cases_of(prepared), TINY), np.random.default_rng(0)
    for number in range(100):
        case, start = source.draw(rng, on_node=number % 2 == 0)
        assert (start >= 0).all() and (start + TINY.patch <= case.info.shape).all()


def test_case_smaller_than_the_patch_is_centred(prepared: Path) -> None:
    config = dataclasses.replace(TINY, patch=(16, 24, 28))  # the cases have 12 x 24 x 20 voxels
    _, start = PatchSource(cases_of(prepared), config).draw(np.random.default_rng(0), on_node=True)
    assert start.tolist() == [-2, 0, -4]


def test_steps_of_several_processes_make_up_those_of_one() -> None:
    one = list(StepSampler(3, 6, batch=4))
    parts = [list(StepSampler(3, 6, batch=2, rank=rank, processes=2)) for rank in (0, 1)]
    assert [a + b for a, b in zip(*parts, strict=True)] == one
    assert one[0] == [12, 13, 14, 15]


def test_unprepared_folder_is_refused(tmp_path: Path, make_prepared: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match="no prepared case"):
        case_folders(tmp_path)
    data = make_prepared(tmp_path / "data")
    (data / "dataset.json").unlink()
    with pytest.raises(ValueError, match="to its end first"):
        read_dataset_info(data)


def test_training_imports_neither_simpleitk_nor_openvino() -> None:
    program = (
        "import sys, training.pretrain, training.finetune\n"
        "loaded = {'SimpleITK', 'openvino', 'pydicom'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])
