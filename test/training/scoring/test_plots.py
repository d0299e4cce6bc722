from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from lnq.image.itk import write_volume
from lnq.image.volume import Volume, make_affine
from lnq.nodes.metrics import NodeResult
from training.scoring import plots as score_plots
from training.scoring.plots import WorstCases, draw_box, plot_scores
from training.scoring.scores import CaseResult
from training.scoring.truths import Truth

RESULT = CaseResult(
    case="a",
    dice=0.5,
    assd_mm=2.0,
    assd_replaced=False,
    nodes=2,
    large_nodes=1,
    large_found=1,
    components=1,
    false_components=0,
    predicted_mm3=10.0,
    true_mm3=20.0,
    seconds=1.0,
    node_results=(NodeResult(1, 9.0, 300.0, True), NodeResult(2, 20.0, 900.0, False)),
)


def test_box_shows_every_finite_value_and_which_were_replaced() -> None:
    axes = Figure().subplots()
    draw_box(axes, 1, [0.1, math.nan, 0.4, 0.3], [False, False, True, False])
    full, hollow = (points.get_offsets()[:, 1].tolist() for points in axes.collections)
    assert full == [0.1, 0.3] and hollow == [0.4]
    draw_box(axes, 2, [math.nan])
    assert [text.get_text() for text in axes.texts] == ["none"]


def test_plot_counts_nodes_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = []
    original = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), original(self, *a, **k))[1])
    plot_scores([RESULT, RESULT], tmp_path / "scores.png", "title")
    assert (tmp_path / "scores.png").read_bytes()[:4] == b"\x89PNG"
    bars = figures[0].axes[2]
    assert [t.get_text() for t in bars.texts] == ["0 of 0", "0 of 0", "2 of 2", "0 of 0", "0 of 2"]
    assert [p.get_height() for p in bars.patches] == [0.0, 0.0, 1.0, 0.0, 0.0]
    assert [t.get_text() for t in bars.get_xticklabels()] == ["0-5", "5-8", "8-10", "10-15", "from 15"]


def test_worst_cases_are_drawn_with_their_own_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[str, str, int, int]] = []

    def preview(volume: Volume, mask: Volume, path: Path, truth: Volume, title: str) -> None:
        drawn.append((path.name, title, int(mask.array.sum()), int(truth.array.sum())))

    monkeypatch.setattr(score_plots, "preview", preview)
    grid = Volume(np.zeros((3, 5, 7), np.int16), make_affine((2.0, 1.0, 1.0)))
    worst = WorstCases(2)
    for number, dice in enumerate((0.4, 0.1, 0.9, 0.2), start=1):
        label, mask = np.zeros(grid.shape, np.int16), np.zeros(grid.shape, np.uint8)
        label.flat[: number + 10], mask.flat[:number] = 1, 1
        for kind, array in (("ct", grid.array), ("nodes", label)):
            write_volume(grid.with_array(array), tmp_path / f"{number}-{kind}.mha")
        truth = Truth(str(number), tmp_path / f"{number}-nodes.mha", tmp_path / f"{number}-ct.mha")
        worst.add(truth, dataclasses.replace(RESULT, dice=dice), np.packbits(mask))
    worst.add(Truth("no ct", tmp_path / "none", None), dataclasses.replace(RESULT, dice=0.0), np.packbits(mask))
    (tmp_path / "worst").mkdir()
    (tmp_path / "worst" / "9-earlier.png").touch()
    worst.draw(tmp_path / "worst")
    assert drawn == [("1-2.png", "2, Dice 0.10", 2, 12), ("2-4.png", "4, Dice 0.20", 4, 14)]
    assert not (tmp_path / "worst" / "9-earlier.png").exists()
