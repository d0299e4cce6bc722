"""Where a network was wrong on prepared cases: marks on background, and annotated nodes that it missed.

Patches centred there teach more than others (`Sampling.wrong_every`). What nobody has told apart is never wrong: of a
partial annotation only marks on certain background count.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from lnq.files import replace_atomically, write_text
from lnq.image.components import label as label_components
from lnq.inference.backends import Model
from lnq.inference.normalise import normalise
from lnq.inference.spec import ModelSpec
from lnq.nodes.postprocess import drop_faint
from lnq.plain import from_plain, to_plain
from training.data.certain import CERTAIN, read_certain, refuse_missing
from training.data.prepare_case import component_centres
from training.data.prepared import WRONG_PLACES, PreparedCase

_FACTS = "wrong.json"
_BESIDE = np.ones((3, 3, 3), bool)


@dataclass(frozen=True)
class WrongFacts:
    """The content of `wrong.json`: what the places were found with, and how many there are."""

    made_from: str  # SHA-256 of the bundle's specification, weights included, and of how certain background was found
    marks: int  # on background
    missed: int  # annotated nodes


def wrong_places(
    probability: np.ndarray, node: np.ndarray, certain: np.ndarray, threshold: float, peak_threshold: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """The middles of wrong marks and of missed nodes, voxels (z, y, x), two arrays int16 [N, 3].

    All arrays are [Z, Y, X]: `probability` of node, 0 where no node is reported; `node` and `certain` background, above
    0 there. A mark is a component that reaches `threshold` and somewhere `peak_threshold`. It is wrong where it neither
    overlaps an annotated node nor lies beside one, and most of it is certain background. A node is missed where no mark
    overlaps it.
    """
    marked = drop_faint((probability >= threshold).astype(np.uint8), probability, peak_threshold) > 0
    marks, count = label_components(marked)
    excused = np.zeros(count + 1, bool)
    excused[marks[ndimage.binary_dilation(node > 0, _BESIDE)]] = True
    every = range(1, count + 1)
    excused[1:] |= np.asarray(ndimage.mean(certain > 0, marks, every)) < 0.5
    excused[0] = True
    nodes, known = label_components(node > 0)
    found = np.zeros(known + 1, bool)
    found[nodes[marked]] = True
    found[0] = True
    return _middles(~excused[marks]), _middles(~found[nodes])


def _middles(mask: np.ndarray) -> np.ndarray:
    return np.array(list(component_centres(mask.astype(np.uint8))), np.int16).reshape(-1, 3)


def probability_of(case: PreparedCase, model: Model) -> np.ndarray:
    """A model's calibrated probability of node in a prepared case, float32 [Z, Y, X], on the case's grid.

    It is 0 outside the region where the model uses that. Raises ValueError where the case was prepared for another
    spacing or crop.
    """
    spec = model.spec
    if case.info.crop != spec.crop or not np.allclose(case.info.spacing_mm, spec.spacing_mm):
        raise ValueError(f"Case {case.info.case} was prepared for another spacing or crop than the model's")
    region = case.whole("region") > 0
    statistics = (case.info.mean_hu, case.info.std_hu)
    image = normalise(case.whole("image").astype(np.float32), spec.normalisation, statistics)
    probability = spec.calibration.apply(model.probabilities(image, region).mean)
    if spec.crop.use_region:
        probability[~region] = 0.0
    return probability


def find_wrong(folder: Path, model: Model) -> WrongFacts:
    """Run a model on a prepared case, and write where it is wrong beside the case's arrays, unless that is there.

    Raises ValueError where the case was prepared for another spacing or crop, or has no certain background.
    """
    spec = model.spec
    made_from = _digest(spec, folder)
    facts = read_facts(folder)
    if facts is not None and facts.made_from == made_from and (folder / WRONG_PLACES).is_file():
        return facts
    refuse_missing(folder)
    case = PreparedCase(folder)
    probability = probability_of(case, model)
    marks, missed = wrong_places(
        probability, case.whole("label"), case.whole(CERTAIN), spec.threshold, spec.peak_threshold
    )
    facts = WrongFacts(made_from, len(marks), len(missed))
    with replace_atomically(folder / WRONG_PLACES) as temporary, temporary.open("wb") as file:
        np.save(file, np.concatenate([marks, missed]))
    write_text(folder / _FACTS, json.dumps(to_plain(facts), indent=1) + "\n")
    return facts


def _digest(spec: ModelSpec, folder: Path) -> str:
    text = json.dumps([to_plain(spec), to_plain(read_certain(folder))], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_facts(folder: Path) -> WrongFacts | None:
    """What was found on a prepared case; None where nobody looked, or where the file is damaged."""
    try:
        return from_plain(WrongFacts, json.loads((folder / _FACTS).read_text()))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
