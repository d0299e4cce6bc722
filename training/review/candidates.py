"""Find candidates in a CT: what several looks at it mark and no annotation touches (METHOD section 9, mining).

A look is a network on the CT as it is, or mirrored. A candidate is a component of what the looks' mean probability
marks at one of several levels, the highest at which it is allowed: a lower level joins what a higher one tells apart,
and a higher one does not see what is faint.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lnq.image.components import label as label_components
from lnq.image.volume import Box, Volume
from lnq.inference.backends import Model, Network
from lnq.inference.sliding_window import Predict
from lnq.inference.spec import ModelSpec
from lnq.nodes.measure import Landmarks, Node, agreement, measure_nodes
from lnq.nodes.postprocess import peaks, postprocess
from lnq.pipeline import Inferred, infer, landmarks_of
from training.data.sources.states import BACKGROUND, NODE

FLIPS: tuple[tuple[int, ...], ...] = ((), (4,), (3, 4), (2, 4))
"""Axes of [B, C, Z, Y, X] that a look mirrors: none, x, y and x, z and x."""
_TOUCHED = np.ones((3, 3, 3), bool)
_DECIMALS = 3  # of a probability: finer ones would only make its file several times larger
_SURE = 1e-6  # probabilities closer to 0 or 1 than that count as so


@dataclass(frozen=True)
class Candidate:
    """A place that may be a node.

    `score` is the highest mean probability in it, `agreement` the part of the looks that mark at least half of it.
    `worth` is how much a judgement teaches, 0 to 1: 1 bit where the networks hold node and no node equally likely.
    `level` is what the mean probability reaches in all of it.
    """

    node: Node
    score: float
    agreement: float
    worth: float
    level: float


@dataclass(frozen=True)
class Limits:
    """Which candidates are wanted."""

    least_mm: float = 5.0  # short axis
    most_mm: float = 1000.0
    above_carina_mm: tuple[float, float] = (-1000.0, 1000.0)  # of candidates whose height is known
    count: int = 50  # per CT, the most worthwhile first

    def allow(self, node: Node) -> bool:
        """Whether a candidate's size and place are wanted."""
        low, high = self.above_carina_mm
        height = node.above_carina_mm
        return self.least_mm <= node.short_axis_mm <= self.most_mm and (height is None or low <= height <= high)


WIDE = Limits()


@dataclass(frozen=True, eq=False)
class Found:
    """The candidates of a CT, the most worthwhile first, numbered from 1 in that order.

    `numbers`, int16, holds each one's number in its voxels, `probability`, float32, the looks' mean; both on the CT's
    own grid. `region_box`, in LPS axes of the whole CT, holds all places where nodes can be.
    """

    candidates: list[Candidate]
    numbers: Volume
    probability: Volume
    region_box: Box
    starts_mm: list[tuple[float, float, float]]  # of each, the centre (L, P, S) of its most probable voxel
    annotated: list[float]  # of each node of the label so far, the highest mean probability in it


def looks(model: Model, flips: int) -> list[Model]:
    """Each network of a model as models that see the CT mirrored by the first `flips` of FLIPS.

    Raises ValueError for another number of flips.
    """
    if not 1 <= flips <= len(FLIPS):
        raise ValueError(f"Flips must be 1 to {len(FLIPS)}, not {flips}")
    return [_mirrored(model, network.predict, axes) for network in model.networks for axes in FLIPS[:flips]]


def _mirrored(model: Model, own: Predict, axes: tuple[int, ...]) -> Model:

    def predict(patches: np.ndarray) -> np.ndarray:
        if not axes:
            return own(patches)
        return np.flip(own(np.ascontiguousarray(np.flip(patches, axes))), axes)

    spec = dataclasses.replace(model.spec, mirror=0)
    return dataclasses.replace(model, spec=spec, networks=(Network(predict),))


@dataclass(frozen=True, eq=False)
class _Looked:
    """What the looks saw in a CT, on the crop's grid, and what its label says there."""

    first: Inferred
    spec: ModelSpec
    landmarks: Landmarks
    maps: list[np.ndarray]  # of each look, float32 [Z, Y, X]
    mean: np.ndarray  # over the looks
    so_far: np.ndarray  # uint8 [Z, Y, X], three states


def find_candidates(
    ct: Volume, state: Volume, models: Sequence[Model], threshold: float, limits: Limits, levels: int = 1
) -> Found:
    """Look at a CT in HU with each model, and find what reaches a threshold and touches no annotation.

    `state` is the label so far, of NODE, BACKGROUND and UNKNOWN on the CT's grid: what it settles is no candidate.
    Each of the `levels` halves the threshold for what no level above it has found. All models have one spacing, crop
    and region. Raises ValueError where they do not.
    """
    spec = models[0].spec
    if any((m.spec.spacing_mm, m.spec.crop) != (spec.spacing_mm, spec.crop) for m in models):
        raise ValueError("The networks see CTs differently: their spacing and crop must be the same")
    seen = [infer(ct, model) for model in models]
    ready, maps = seen[0].ready, [one.probability for one in seen]
    mean = np.round(np.mean(maps, axis=0, dtype=np.float32), _DECIMALS)
    so_far = ready.orientation.apply(state.array)[ready.crop.box]
    looked = _Looked(seen[0], spec, landmarks_of(ready), maps, mean, so_far)
    numbers, every = np.zeros(mean.shape, np.int16), list[Candidate]()
    for level in range(levels):
        every += _at_level(looked, threshold / 2**level, limits, numbers, len(every))
    chosen = sorted(every, key=lambda c: (-c.worth, -c.node.volume_mm3, c.node.number))[: limits.count]
    renumber = np.zeros(len(every) + 1, np.int16)
    for number, candidate in enumerate(chosen, start=1):
        renumber[candidate.node.number] = number
    ranked = [_renumbered(candidate, number) for number, candidate in enumerate(chosen, start=1)]
    ranked_numbers, probability = ready.paste(renumber[numbers]), ready.paste(mean)
    starts = starts_of(ranked_numbers, probability)
    return Found(ranked, ranked_numbers, probability, ready.crop.region_box, starts, _annotated(so_far, mean))


def _annotated(so_far: np.ndarray, mean: np.ndarray) -> list[float]:
    labels, count = label_components(so_far == NODE)
    inside = labels > 0
    return [round(float(one), _DECIMALS) for one in peaks(labels[inside], count, mean[inside])]


def _renumbered(candidate: Candidate, number: int) -> Candidate:
    return dataclasses.replace(candidate, node=dataclasses.replace(candidate.node, number=number))


def _at_level(looked: _Looked, level: float, limits: Limits, numbers: np.ndarray, before: int) -> list[Candidate]:
    """The candidates at one level, that touch none of those `before` it. Writes their numbers into `numbers`."""
    first, mean, so_far = looked.first, looked.mean, looked.so_far
    settled = so_far == BACKGROUND
    marked = _untouched(_marked(first, mean, level, looked.spec) & ~settled, (so_far == NODE) | (numbers > 0))
    marked = _summits(marked, mean, settled)
    mask = first.ready.cropped.with_array(marked.astype(np.uint8))
    nodes, here = measure_nodes(mask, first.ready.cropped.array, mean, looked.landmarks)
    shares = agreement(here, len(nodes), (one >= level for one in looked.maps))
    found = list[Candidate]()
    for node, share in zip(nodes, shares, strict=True):
        if limits.allow(node):
            inside, number = here == node.number, before + len(found) + 1
            numbers[inside] = number
            found.append(_judge(dataclasses.replace(node, number=number), inside, looked, share, level))
    return found


def starts_of(numbers: Volume, probability: Volume) -> list[tuple[float, float, float]]:
    """Where each numbered component is most probable: the centre (L, P, S) of that voxel in mm, to 0.001."""
    starts = []
    for number, box in enumerate(ndimage.find_objects(numbers.array), start=1):
        inside = np.where(numbers.array[box] == number, probability.array[box], -1.0)
        local = np.unravel_index(int(inside.argmax()), inside.shape)
        index = [int(i) + side.start for i, side in zip(local, box, strict=True)]
        left, posterior, superior = (numbers.affine[:3] @ [*index, 1.0]).round(3).tolist()
        starts.append((left, posterior, superior))
    return starts


def _marked(inferred: Inferred, mean: np.ndarray, threshold: float, spec: ModelSpec) -> np.ndarray:
    """What reaches the threshold and passes the specification's rules, bool [Z, Y, X] on the crop's grid."""
    crop, use_region = inferred.ready.crop, spec.crop.use_region
    return postprocess(mean >= threshold, inferred.hu, crop, spec.postprocess, use_region) > 0


def _untouched(marked: np.ndarray, annotated: np.ndarray) -> np.ndarray:
    """The components of a mask that neither overlap an annotation nor lie beside it."""
    labels, count = label_components(marked)
    touched = np.zeros(count + 1, bool)
    touched[labels[ndimage.binary_dilation(annotated, _TOUCHED)]] = True
    touched[0] = True
    free: np.ndarray = ~touched[labels]
    return free


def _summits(marked: np.ndarray, mean: np.ndarray, settled: np.ndarray) -> np.ndarray:
    """The components of a mask but for flanks: those beside a settled voxel that is more probable than all of theirs.

    Without this, what a reader has rejected would come back as the rim of what a lower level marks there.
    """
    labels, count = label_components(marked)
    if not (count and settled.any()):
        return marked
    every = range(1, count + 1)
    beside = ndimage.maximum_filter(np.where(settled, mean, 0.0), size=3)
    flank = np.asarray(ndimage.maximum(beside, labels, every)) > np.asarray(ndimage.maximum(mean, labels, every))
    summit: np.ndarray = ~np.concatenate([[True], flank])[labels]
    return summit


def _judge(node: Node, inside: np.ndarray, looked: _Looked, share: float, level: float) -> Candidate:
    highest = [float(one[inside].max()) for one in looked.maps]
    cut = max(looked.spec.threshold, looked.spec.peak_threshold)
    return Candidate(node, float(looked.mean[inside].max()), share, worth(float(np.mean(highest)), cut), level)


def worth(score: float, cut: float) -> float:
    """Entropy in bits of a node's probability, from a network whose score `cut` means that both are equally likely.

    Networks trained on partial labels answer on a scale of their own, whose middle is their threshold.
    """
    odds = _log_odds(score) - _log_odds(cut)
    p = 1.0 / (1.0 + math.exp(-odds))
    return -sum(q * math.log2(q) for q in (p, 1.0 - p) if q > 0.0)


def _log_odds(p: float) -> float:
    p = min(max(p, _SURE), 1.0 - _SURE)
    return math.log(p / (1.0 - p))
