"""The picture of a run's progress: loss curves, and the network's output on one fixed patch.

A `Look` is made once per run and keeps the patch. Called with the network, it returns the panels to draw.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lnq.files import replace_atomically
from lnq.inference.spec import IntTriple, Normalisation
from lnq.results.preview import TRUTH_COLOUR, WINDOW_HU
from training.config import Config
from training.data.augmentation.corrupt import apply_corruption, draw_corruption
from training.data.certain import CERTAIN
from training.data.dataset import normalise_patch
from training.data.prepared import PreparedCase
from training.method.losses import mix_pseudo_label, one_hot

THETA = 0.5  # mixing weight of the pseudo label in the picture; in training it is random
_PANEL_INCHES = 3.0
_SHADE = (0.0, 0.45, 0.7, 0.5)  # half transparent blue, which no probability has


@dataclass(frozen=True, eq=False)
class Panel:
    """An axial slice [Y, X] in grey, overlaid with the probability of node or a shade, and the annotation's outline."""

    title: str
    pixels: np.ndarray
    window: tuple[float, float]  # values shown as black and as white
    aspect: float  # a pixel's height divided by its width
    probability: np.ndarray | None = None
    annotation: np.ndarray | None = None
    shaded: np.ndarray | None = None  # bool


Look = Callable[[nn.Module], list[Panel]]
"""Dual-branch network in evaluation mode -> panels."""


def finetuning_look(
    cases: Sequence[PreparedCase], config: Config, normalisation: Normalisation, both: bool = True
) -> Look:
    """A look at a patch around an annotated node, in the slice with most of the annotation.

    The patch is from a partial case where there is one. Panels: the CT, the annotation, the mixed pseudo label and both
    branches' predictions; also the certain background, where the losses trust it alone. Without `both`, the main
    branch's prediction is the only one, and there is no pseudo label.
    """
    annotated = [case for case in cases if case.info.node_centres]
    case = next((case for case in annotated if not case.info.full), annotated[0])
    start = np.array(case.info.node_centres[0]) - np.array(config.patch) // 2
    hu, label = case.box("image", start, config.patch), case.box("label", start, config.patch)
    image = torch.from_numpy(normalise_patch(hu, case, normalisation))[None, None]
    z = int(label.sum(axis=(1, 2)).argmax())
    certain = case.box(CERTAIN, start, config.patch)[z] > 0 if config.losses.trust == "certain" else None

    def panel(title: str, p: Tensor | None = None, annotation: np.ndarray | None = label[z]) -> Panel:
        probability = None if p is None else p[0, 1, z].float().cpu().numpy()
        return Panel(title, hu[z], WINDOW_HU, _aspect(case), probability, annotation)

    @torch.no_grad()
    def look(network: nn.Module) -> list[Panel]:
        device = next(network.parameters()).device
        main, auxiliary = network(image.to(device), both=both)
        p_main = main.float().softmax(dim=1)
        panels = [panel(f"CT, {case.info.case}", annotation=None), panel("annotation")]
        if certain is not None:
            panels.append(dataclasses.replace(panel("certain background, blue"), shaded=certain))
        if both:
            p_auxiliary = auxiliary.float().softmax(dim=1)
            y = one_hot(torch.from_numpy(label)[None].to(device))
            pseudo = mix_pseudo_label(p_main, p_auxiliary, y, THETA, config.losses.tau)
            panels.append(panel(f"mixed pseudo label, theta {THETA}", pseudo))
        panels.append(panel("main branch", p_main))
        if both:
            panels.append(panel("auxiliary branch", p_auxiliary))
        return panels

    return look


def pretraining_look(cases: Sequence[PreparedCase], config: Config, normalisation: Normalisation) -> Look:
    """A look at the middle of the first case: corrupted, clean, and as both branches reconstruct it."""
    case = cases[0]
    start = (np.array(case.info.shape) - config.patch) // 2
    patch = normalise_patch(case.box("image", start, config.patch), case, normalisation)
    corrupted, clean = apply_corruption(patch, _visible_corruption(config.patch, config.seed))
    z = config.patch[0] // 2
    low, high = np.percentile(clean, (1, 99)).tolist()

    @torch.no_grad()
    def look(network: nn.Module) -> list[Panel]:
        device = next(network.parameters()).device
        outputs = [x[0, 0].float().cpu().numpy() for x in network(torch.from_numpy(corrupted)[None, None].to(device))]
        titles = (f"corrupted, {case.info.case}", "clean", "main branch", "auxiliary branch")
        patches = (corrupted, clean, *outputs)
        return [Panel(t, p[z], (low, high), _aspect(case)) for t, p in zip(titles, patches, strict=True)]

    return look


def _visible_corruption(shape: IntTriple, seed: int) -> Any:
    """The seed's first corruption that paints inside boxes only, so that most of the patch stays visible."""
    rng = np.random.default_rng([seed, 4])
    while (corruption := draw_corruption(shape, rng)).paint != "in":
        pass
    return corruption


def _aspect(case: PreparedCase) -> float:
    _, y, x = case.info.spacing_mm
    return y / x


def draw_progress(path: Path, name: str, history: Sequence[dict[str, float]], panels: Sequence[Panel]) -> None:
    """Write the PNG: the loss and its terms by epoch, and the panels below. Raises OSError where that fails."""
    from matplotlib.figure import Figure

    columns = max(2, len(panels))
    figure = Figure(figsize=(_PANEL_INCHES * columns, 2.2 * _PANEL_INCHES), layout="constrained")
    figure.suptitle(f"{name}, {len(history)} epochs")
    halves: Any = figure.subfigures(2, 1)
    curves, pictures = halves
    whole, parts = curves.subplots(1, 2)
    _draw_curves(whole, history, ["loss"])
    _draw_curves(parts, history, _terms(history))
    axes = pictures.subplots(1, columns, squeeze=False)[0]
    shown = None
    for ax, panel in zip(axes, panels, strict=False):
        shown = _draw_panel(ax, panel) or shown
    for ax in axes:
        ax.set_axis_off()
    if shown is not None:
        pictures.colorbar(shown, ax=list(axes), label="probability of node", shrink=0.7)
    with replace_atomically(path) as part:
        figure.savefig(part, dpi=100, format="png")


def _terms(history: Sequence[dict[str, float]]) -> list[str]:
    """Names of the terms that `loss` is made of."""
    names = dict.fromkeys(name for row in history for name in row)
    return [name for name in names if name not in ("epoch", "lr", "loss") and not name.endswith("seconds")]


def _draw_curves(axes: Any, history: Sequence[dict[str, float]], names: Sequence[str]) -> None:
    for name in names:
        rows = [row for row in history if name in row]
        marker = "." if len(rows) < 20 else None
        axes.plot([row["epoch"] + 1 for row in rows], [row[name] for row in rows], label=name, marker=marker)
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    if names:
        axes.legend(fontsize="small")


def _draw_panel(axes: Any, panel: Panel) -> Any:
    """Draw a panel; returns the probability's image, which a colour bar needs, or None where there is none."""
    low, high = panel.window
    axes.set_title(panel.title, fontsize="small")
    axes.imshow(panel.pixels, cmap="gray", vmin=low, vmax=high, aspect=panel.aspect)
    shown = None
    if panel.probability is not None:
        p = panel.probability
        shown = axes.imshow(p, cmap="plasma", vmin=0.0, vmax=1.0, alpha=0.9 * p.clip(0.0, 1.0), aspect=panel.aspect)
    if panel.shaded is not None:
        axes.imshow(panel.shaded[..., None] * np.array(_SHADE), aspect=panel.aspect)
    if panel.annotation is not None and panel.annotation.any():
        axes.contour(panel.annotation, levels=[0.5], colors=[TRUTH_COLOUR], linewidths=1.5)
    return shown
