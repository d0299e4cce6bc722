from __future__ import annotations

import dataclasses
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch

from lnq.inference.spec import Normalisation
from training.config import TINY, Losses
from training.data.certain import add_certain
from training.data.dataset_info import normalisation_for, read_dataset_info
from training.data.prepared import PreparedCase, case_folders
from training.engine.picture import Panel, draw_progress, finetuning_look, pretraining_look
from training.method.losses import mix_pseudo_label
from training.method.network import DualBranchNet

CT = Normalisation("ct", clip_hu=(-140.0, 120.0), mean=60.0, std=40.0)


CONFIG = dataclasses.replace(TINY, precision="32-true", threads=1)


def cases_of(data: Path) -> list[PreparedCase]:
    return [PreparedCase(folder) for folder in case_folders(data)]


def rows(*losses: float) -> list[dict[str, float]]:
    return [{"epoch": float(i), "lr": 0.1, "loss": loss} for i, loss in enumerate(losses)]


def test_look_shows_the_slice_of_the_annotation_and_what_both_branches_say_there(prepared: Path) -> None:
    torch.manual_seed(0)
    network, case = DualBranchNet(CONFIG.network).eval(), cases_of(prepared)[0]
    ct, annotation, pseudo, main, auxiliary = finetuning_look(cases_of(prepared), CONFIG, CT)(network)
    # The annotated node is centred at (6, 12, 10), the patch of 8 x 16 x 16 starts at (2, 4, 2), and its slices with
    # the node are 3 to 5
    hu, label = case.whole("image")[5, 4:20, 2:18], case.whole("label")[5, 4:20, 2:18]
    assert np.array_equal(ct.pixels, hu) and ct.probability is None and ct.annotation is None
    assert annotation.annotation is not None and np.array_equal(annotation.annotation, label)
    assert pseudo.probability is not None and (pseudo.probability[label == 1] == 1.0).all()
    image = torch.from_numpy((np.clip(case.whole("image")[2:10, 4:20, 2:18], -140, 120) - 60.0) / 40.0).float()
    with torch.no_grad():
        p = [branch.softmax(1) for branch in network(image[None, None])]
    for panel, branch in ((main, p[0]), (auxiliary, p[1])):
        assert panel.probability == pytest.approx(branch[0, 1, 3].numpy(), abs=1e-4)
    mixed = mix_pseudo_label(p[0], p[1], torch.zeros_like(p[0]), 0.5, CONFIG.losses.tau)[0, 1, 3].numpy()
    assert pseudo.probability[label == 0] == pytest.approx(mixed[label == 0], abs=1e-4)


def test_look_shows_the_certain_background_where_the_losses_trust_it(prepared: Path) -> None:
    for folder in case_folders(prepared):
        add_certain(folder, (-140.0, 120.0))
    config = dataclasses.replace(TINY, losses=Losses(trust="certain"))
    cases = [PreparedCase(folder) for folder in case_folders(prepared)]
    look = finetuning_look(cases, config, normalisation_for("ct", read_dataset_info(prepared)))
    panels = {panel.title: panel for panel in look(DualBranchNet(TINY.network).eval())}
    panel = panels["certain background, blue"]
    start = np.array(cases[0].info.node_centres[0]) - np.array(TINY.patch) // 2
    label = cases[0].box("label", start, TINY.patch)
    certain = cases[0].box("certain", start, TINY.patch)[label.sum(axis=(1, 2)).argmax()]
    assert panel.probability is None  # whose colours mean node
    assert panel.shaded is not None and 0 < panel.shaded.mean() < 1
    np.testing.assert_array_equal(panel.shaded, certain > 0)


def test_look_at_a_single_branch_shows_no_other(prepared: Path) -> None:
    panels = finetuning_look(cases_of(prepared), CONFIG, CT, both=False)(DualBranchNet(CONFIG.network).eval())
    assert [panel.title for panel in panels] == ["CT, case-00", "annotation", "main branch"]


def test_look_at_pre_training_shows_what_is_to_be_reconstructed(prepared: Path) -> None:
    torch.manual_seed(0)
    network = DualBranchNet(CONFIG.network, head_channels=1).eval()
    corrupted, clean, main, _ = pretraining_look(cases_of(prepared), CONFIG, CT)(network)
    assert clean.pixels.shape == main.pixels.shape == TINY.patch[1:]
    assert not np.array_equal(corrupted.pixels, clean.pixels)


def test_picture_colours_what_is_probable_and_shades_what_is_certain(tmp_path: Path) -> None:
    def coloured(probability: float) -> int:
        pixels = np.zeros((8, 8))
        panel = Panel("main branch", pixels, (0.0, 1.0), 1.0, np.full((8, 8), probability))
        path = tmp_path / "progress.png"
        draw_progress(path, "finetune", rows(2.0, 1.0), [panel])
        image = matplotlib.image.imread(path)[..., :3]
        image = image[image.shape[0] // 2 :, : image.shape[1] // 2]  # the panel's quarter, without curves and bar
        return int((np.ptp(image, axis=-1) > 0.5).sum())

    def blue(shaded: bool) -> int:
        mask = np.full((8, 8), shaded)
        panel = Panel("certain background, blue", np.zeros((8, 8)), (0.0, 1.0), 1.0, shaded=mask)
        draw_progress(tmp_path / "progress.png", "finetune", rows(2.0, 1.0), [panel])
        image = matplotlib.image.imread(tmp_path / "progress.png")[..., :3]
        return int((np.abs(image - [0.0, 0.225, 0.35]).max(axis=-1) < 0.02).sum())

    assert blue(False) == 0 and blue(True) > 10_000
    assert coloured(0.0) == 0
    assert coloured(0.9) > 10_000
    assert [path.name for path in tmp_path.iterdir()] == ["progress.png"]
