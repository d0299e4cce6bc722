from __future__ import annotations

import dataclasses
import math
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.paths import ROOT
from torch.utils.data import DataLoader

from lnq.inference.normalise import normalise
from lnq.inference.spec import Normalisation
from training.config import TINY, Augmentation, Config, Losses, Sampling
from training.data.certain import add_certain
from training.data.dataset import (
    BACKGROUND,
    NODE,
    FinetuneDataset,
    PatchSource,
    PretrainDataset,
    StepSampler,
    normalise_patch,
)
from training.data.node_weights import node_weights
from training.data.prepared import CaseInfo, PreparedCase, case_folders, write_case

CT = Normalisation("ct", clip_hu=(-140.0, 120.0), mean=60.0, std=40.0)


def cases_of(data: Path, cache: bool = True) -> list[PreparedCase]:
    return [PreparedCase(folder, cache) for folder in case_folders(data)]


def with_region(config: Config, region: bool) -> Config:
    return dataclasses.replace(config, sampling=Sampling(region=region))


@pytest.mark.parametrize("normalisation", [CT, Normalisation("zscore")], ids=["ct", "zscore"])
def test_patches_are_normalised_as_inference_does(prepared: Path, normalisation: Normalisation) -> None:
    case = cases_of(prepared)[0]
    whole = normalise(case.whole("image").astype(np.float32), normalisation)
    patch = normalise_patch(case.box("image", (1, 2, 3), (4, 8, 6)), case, normalisation)
    assert np.allclose(patch, whole[1:5, 2:10, 3:9], atol=2e-3)  # the case's statistics are of unrounded HU


@pytest.mark.parametrize("kind", [FinetuneDataset, PretrainDataset])
def test_a_worker_that_is_started_afresh_gives_the_same_samples(
    prepared: Path, kind: type[FinetuneDataset] | type[PretrainDataset]
) -> None:
    dataset = kind(cases_of(prepared), TINY, CT)
    sent = pickle.loads(pickle.dumps(dataset))  # as a spawned process gets it
    for name, value in dataset[5].items():
        assert torch.equal(sent[5][name], value)


def large(config: Config, seed: int = 0) -> Config:
    """Patches that PyTorch shares among threads (above 32,768 voxels), with all kinds of augmentation."""
    strong = dataclasses.replace(config.augmentation, strong=True, p_rotation=0.5, p_scaling=0.5)
    return dataclasses.replace(config, patch=(32, 48, 48), augmentation=strong, seed=seed)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """PyTorch computes with two threads, as the training process does; loader workers have one each."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("dataset", [FinetuneDataset, PretrainDataset])
@pytest.mark.parametrize("cache", [True, False])
def test_samples_do_not_depend_on_the_number_of_workers(
    prepared: Path, dataset: type, cache: bool, two_threads: None
) -> None:
    data = dataset(cases_of(prepared, cache), large(TINY), CT)

    def load(count: int) -> list[dict[str, torch.Tensor]]:
        return list(DataLoader(data, batch_sampler=StepSampler(0, 6, 2), num_workers=count))

    alone = load(0)
    for workers in (1, 2):
        for one, other in zip(alone, load(workers), strict=True):
            assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("dataset", [FinetuneDataset, PretrainDataset])
def test_samples_depend_on_the_seed_and_their_number(prepared: Path, dataset: type) -> None:
    one, other = (dataset(cases_of(prepared), large(TINY, seed), CT) for seed in (0, 1))
    assert torch.equal(one[3]["image"], one[3]["image"])
    assert not torch.equal(one[3]["image"], one[4]["image"])
    assert not torch.equal(one[3]["image"], other[3]["image"])


def test_loading_leaves_global_settings_alone(prepared: Path, two_threads: None) -> None:
    data = FinetuneDataset(cases_of(prepared), TINY, CT)
    torch.manual_seed(0)
    np.random.seed(0)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    for index in range(5):
        data[index]
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(numpy_before, np.random.get_state()[1])
    assert torch.get_num_threads() == 2


def test_every_third_sample_shows_an_annotated_node(prepared: Path) -> None:
    plain = dataclasses.replace(TINY.augmentation, p_rotation=0.0, p_scaling=0.0)
    data = FinetuneDataset(cases_of(prepared), dataclasses.replace(TINY, augmentation=plain), CT)
    for index in range(2, 60, 3):
        assert data[index]["label"].any(), index


def test_every_so_many_samples_show_where_a_network_was_wrong(prepared: Path) -> None:
    for folder in case_folders(prepared)[:1]:
        np.save(folder / "wrong.npy", np.array([[8, 4, 15]], np.int16))
    plain = dataclasses.replace(TINY.augmentation, p_rotation=0.0, p_scaling=0.0, mirror=(False, False, False))
    sampling = Sampling(wrong_every=4, node_jitter=0.0)
    config = dataclasses.replace(TINY, patch=(4, 4, 4), augmentation=plain, sampling=sampling)
    source = PatchSource(cases_of(prepared), config)
    assert [sampling.kind_of(index) for index in range(9)] == [
        "wrong", None, "node", None, "wrong", "node", None, None, "node",
    ]  # fmt: skip
    case, start = source.draw(np.random.default_rng(0), "wrong")
    assert case.info.case == "case-00" and start.tolist() == [6, 2, 13]


def test_without_wrong_places_samples_are_drawn_anywhere(prepared: Path) -> None:
    source = PatchSource(cases_of(prepared), TINY)
    starts = [[source.draw(np.random.default_rng(seed), on)[1].tolist() for seed in range(9)] for on in ("wrong", None)]
    assert starts[0] == starts[1]


def test_a_share_of_the_samples_is_of_full_cases(prepared: Path) -> None:
    cases = cases_of(prepared)
    assert 0 < sum(case.info.full for case in cases) < len(cases)

    def full_of(share: float) -> float:
        data = FinetuneDataset(
            cases, dataclasses.replace(TINY, patch=(4, 4, 4), sampling=Sampling(full_share=share)), CT
        )
        return float(np.mean([bool(data[index]["full"]) for index in range(200)]))

    usual = np.mean([case.info.full for case in cases])
    assert full_of(0.0) == pytest.approx(usual, abs=0.1)
    assert full_of(0.6) == pytest.approx(0.6 + 0.4 * usual, abs=0.1)
    assert full_of(1.0) == 1.0


def test_a_full_case_without_a_node_takes_no_nodes_turn(prepared: Path) -> None:
    cases = cases_of(prepared)
    for case in cases:
        if case.info.full:
            case.info = dataclasses.replace(case.info, node_centres=())
    source = PatchSource(cases, TINY)
    drawn = [source.draw(np.random.default_rng(seed), "node", full=True)[0] for seed in range(30)]
    assert not any(case.info.full for case in drawn)
    drawn = [source.draw(np.random.default_rng(seed), None, full=True)[0] for seed in range(30)]
    assert all(case.info.full for case in drawn)


def test_a_share_of_full_cases_without_any_is_refused(prepared: Path) -> None:
    partial = [case for case in cases_of(prepared) if not case.info.full]
    with pytest.raises(ValueError) as error:
        FinetuneDataset(partial, dataclasses.replace(TINY, sampling=Sampling(full_share=0.5)), CT)
    assert str(error.value) == "sampling.full_share needs cases that are annotated wholly, and there is none"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (lambda: Sampling(full_share=1.1), "sampling.full_share must be 0 to 1, not 1.1"),
        (lambda: Augmentation(copies=-1), "augmentation.copies must not be negative, as -1 is"),
        (lambda: Losses(small_node_mm=-2.0), "losses.small_node_mm must be a length or 0, not -2"),
        (lambda: Losses(small_node_mm=math.nan), "losses.small_node_mm must be a length or 0, not nan"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: Callable[[], object], sentence: str) -> None:
    with pytest.raises(ValueError) as error:
        settings()
    assert str(error.value) == sentence


def test_copies_of_annotated_nodes_lie_in_many_patches(prepared: Path) -> None:
    plain = dataclasses.replace(TINY.augmentation, p_rotation=0.0, p_scaling=0.0, mirror=(False, False, False))
    cases = cases_of(prepared)
    without, with_copies = (
        FinetuneDataset(cases, dataclasses.replace(TINY, augmentation=dataclasses.replace(plain, copies=copies)), CT)
        for copies in (0, 6)
    )
    marked = [[int(data[index]["label"].sum()) for index in range(0, 60, 3)] for data in (without, with_copies)]
    assert sum(more > some for some, more in zip(*marked, strict=True)) > 5
    assert all(more >= some for some, more in zip(*marked, strict=True))


def test_copies_do_not_depend_on_the_workers_and_are_known_nodes(prepared: Path) -> None:
    for folder in case_folders(prepared):
        add_certain(folder, (-140.0, 120.0))
    config = dataclasses.replace(
        TINY, augmentation=dataclasses.replace(TINY.augmentation, copies=6), losses=Losses(trust="certain")
    )
    data = FinetuneDataset(cases_of(prepared, cache=False), config, CT)
    alone, other = (
        list(DataLoader(data, batch_sampler=StepSampler(0, 6, 2), num_workers=workers)) for workers in (0, 2)
    )
    for one, same in zip(alone, other, strict=True):
        assert all(torch.equal(one[name], same[name]) for name in one)
    without = FinetuneDataset(data.source.cases, dataclasses.replace(config, augmentation=TINY.augmentation), CT)
    nodes = [sum(int((of[index]["label"] == NODE).sum()) for index in range(12)) for of in (without, data)]
    assert nodes[1] > nodes[0]


def test_copies_without_a_node_to_copy_are_refused(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.data.augmentation.copy_paste._LEAST_VOXELS", 10_000)
    config = dataclasses.replace(TINY, augmentation=dataclasses.replace(TINY.augmentation, copies=1))
    with pytest.raises(ValueError) as error:
        FinetuneDataset(cases_of(prepared), config, CT)
    assert str(error.value) == "augmentation.copies needs an annotated node that is large enough, and there is none"


def test_samples_have_weights_where_small_nodes_are_weighed(prepared: Path) -> None:
    """They are those of the label as it came out of the augmentation."""
    config = dataclasses.replace(TINY, losses=Losses(small_node_mm=30.0))
    plain, weighed = (FinetuneDataset(cases_of(prepared), one, CT) for one in (TINY, config))
    most = 1.0
    for index in range(2, 60, 3):
        sample = weighed[index]
        assert "weight" not in plain[index] and torch.equal(plain[index]["label"], sample["label"])
        wanted = node_weights((sample["label"] == NODE).numpy(), TINY.spacing_mm, 30.0)
        assert torch.equal(sample["weight"], torch.from_numpy(wanted))
        most = max(most, wanted.max())
    assert most > 1.0


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
        case, start = source.draw(rng)
        z, y, x = start + 2
        assert case.whole("region")[max(0, z - 1) : z + 1, y - 1 : y + 1, x - 1 : x + 1].any()


def test_patches_stay_inside_where_the_case_is_large_enough(prepared: Path) -> None:
    source, rng = PatchSource(cases_of(prepared), TINY), np.random.default_rng(0)
    for number in range(100):
        case, start = source.draw(rng, "node" if number % 2 == 0 else None)
        assert (start >= 0).all() and (start + TINY.patch <= case.info.shape).all()


def test_case_smaller_than_the_patch_is_centred(prepared: Path) -> None:
    config = dataclasses.replace(TINY, patch=(16, 24, 28))  # the cases have 12 x 24 x 20 voxels
    _, start = PatchSource(cases_of(prepared), config).draw(np.random.default_rng(0), "node")
    assert start.tolist() == [-2, 0, -4]


def test_padding_is_air_of_the_case(prepared: Path) -> None:
    config = dataclasses.replace(TINY, patch=(16, 24, 28))
    cases = cases_of(prepared)[:1]
    info = cases[0].info
    clean = PretrainDataset(cases, config, Normalisation("zscore"))[0]["clean"]
    air = (-1024 - info.mean_hu) / info.std_hu
    assert int((clean - air).abs().lt(1e-4).sum()) == 16 * 24 * 28 - 12 * 24 * 20
    label = FinetuneDataset(cases, config, Normalisation("zscore"))[2]["label"]
    assert label.shape == (16, 24, 28) and 0 < int(label.sum()) <= 206  # 75 voxels of node, at most 1.4 fold a side


def test_patches_of_lung_and_without_nodes_are_among_the_samples(tmp_path: Path) -> None:
    """Half of the case is lung of -850 HU; the node and the mediastinal region lie in the other half."""
    shape, node = (8, 16, 32), np.zeros((8, 16, 32), np.uint8)
    image = np.full(shape, -850)
    image[:, :, 16:] = 50
    node[3:5, 7:9, 25:27] = 1
    region = np.zeros(shape, np.uint8)
    region[:, :, 20:] = 1
    info = CaseInfo("a", False, shape, (4.0, 3.0, 3.0), 0.0, 1.0, ((4, 8, 26),), (288.0,), 0.0)
    write_case(tmp_path / "a", info, image, node, region, np.argwhere(region))
    case = PreparedCase(tmp_path / "a")

    def count(config: Config) -> tuple[int, int, int]:
        """Of 100 patches: those of lung alone, those without lung, and those with node."""
        source, rng = PatchSource([case], dataclasses.replace(config, patch=(4, 6, 6))), np.random.default_rng(0)
        starts = [source.draw(rng)[1] for _ in range(100)]
        hu = [case.box("image", start, (4, 6, 6)) for start in starts]
        nodes = sum(bool(case.box("label", start, (4, 6, 6)).any()) for start in starts)
        return sum((h == -850).all() for h in hu), sum((h == 50).all() for h in hu), nodes

    lung, tissue, nodes = count(with_region(TINY, False))
    # the centre's column is uniform in 0..32: lung alone up to 13, no lung from 19 on, so 41 % each
    assert lung == pytest.approx(41, abs=15) and tissue == pytest.approx(41, abs=15) and 0 < nodes < 30
    lung, tissue, nodes = count(with_region(TINY, True))
    assert lung == 0 and tissue > 80 and 0 < nodes < 100


def test_steps_of_several_processes_make_up_those_of_one() -> None:
    one = list(StepSampler(3, 6, batch=4))
    parts = [list(StepSampler(3, 6, batch=2, rank=rank, processes=2)) for rank in (0, 1)]
    assert [a + b for a, b in zip(*parts, strict=True)] == one
    assert one[0] == [12, 13, 14, 15]


def test_training_imports_neither_simpleitk_nor_openvino() -> None:
    program = (
        "import sys, training.pretrain, training.finetune\n"
        "loaded = {'SimpleITK', 'openvino', 'pydicom', 'highdicom'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_a_sample_of_three_states_moves_them_alike(prepared: Path) -> None:
    for folder in case_folders(prepared):
        add_certain(folder, (-140.0, 120.0))
    strong = dataclasses.replace(TINY.augmentation, p_rotation=1.0, p_scaling=1.0)
    plain = dataclasses.replace(TINY, augmentation=strong, seed=2)
    certain = dataclasses.replace(plain, losses=Losses(trust="certain"))
    cases = [PreparedCase(folder, True, ("image", "label", "certain")) for folder in case_folders(prepared)]
    seen: set[int] = set()
    for index in range(12):
        one, three = (FinetuneDataset(cases, config, CT)[index] for config in (plain, certain))
        assert torch.equal(one["image"], three["image"])
        assert torch.equal(one["label"] == 1, three["label"] == NODE)
        assert three["label"].dtype == torch.uint8
        seen |= set(three["label"].unique().tolist())
        if three["full"]:
            assert (three["label"] == 0).float().mean() < 0.2  # interpolated between node and background at most
    assert seen == {0, NODE, BACKGROUND}
