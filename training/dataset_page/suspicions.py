"""What looks wrong in a prepared data set. All of it is suspicion, by simple rules, for a person to judge.

A threshold lies beyond what correct labels show on phantoms and on real CTs with inserted nodes, and on the same with
borders off by 1.5 to 3 mm. Its comment says what those have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lnq.image.plausible import CONTRAST_HU
from lnq.report.tables import number
from training.data.measures.record import CaseMeasures, Corners, MarkedNode, Shift
from training.data.measures.tissue import AIR_HU
from training.dataset_page.cases import ShownCase
from training.dataset_page.mirrored import Likeness, likeness

AIR_SHARE = 0.4  # of a node's voxels; correct labels have up to 0.08, with borders 3 mm too wide up to 0.32
BRIGHT_SHARE = 0.4  # of a node's voxels; correct labels have up to 0.02, but a node may be calcified
EVEN_HU, EVEN_PART = 40.0, 0.15  # deviation, or that part of the mean: 95 % of places in two real spines have more
LEAST_MM3 = 50.0  # of a node that is in the wrong tissue: less comes with resampling
OUTSIDE_SHARE = 0.5  # of a node's voxels: the region's own border is off by some mm
LOST_SHARE = 0.1  # of all annotated voxels, outside the crop
LEAST_SHIFT_MM = 2.4  # borders that are off look like less
FEW_NODES = 3  # with fewer, a neighbour may fit better than the node itself
FAR_MM = 6.5  # farthest shift of few nodes that is believed: neighbours lie farther
EDGE_PART, EDGE_PART_FEW = 0.7, 0.4  # most that the edge has of the best one's; correct labels have 1.0
LEAST_EDGE_HU, LEAST_GAIN_HU = 30.0, 15.0  # of the best edge: less is noise
SOFT_GAIN, LEAST_SOFT = 0.1, 0.75  # share of soft tissue inside the label, gained and reached where it fits best
AGREEING = 0.7  # share of the annotated volume that fits better there


@dataclass(frozen=True)
class SuspicionKind:
    """A kind of suspicion, with what it may mean and what to do."""

    key: str
    title: str
    meaning: str


@dataclass(frozen=True)
class Suspicion:
    """One thing that looks wrong in a case."""

    kind: str  # a key of KINDS
    case: ShownCase
    text: str  # what is seen, with its number
    weight: float  # how striking it is: the kind's list begins with the most
    spot: Corners | None  # where to look; None for the whole chest


KINDS = (
    SuspicionKind(
        "mirrored",
        "Left and right swapped?",
        "The chest looks like the mirror image of the others. Compare heart, aortic arch and liver with the source. "
        "Situs inversus looks alike. Whether all cases are mirrored cannot be told.",
    ),
    SuspicionKind(
        "shifted",
        "Image and label shifted?",
        "The label would fit its image better some mm away (orange). Compare the origins and spacings of image and "
        "label. In a single case the label may just have been drawn beside the node.",
    ),
    SuspicionKind(
        "air",
        "Label in air or lung?",
        "A large part of a node has the HU of air or lung. The label may be misplaced, or belong to another CT. "
        "Ground-glass lesions look alike.",
    ),
    SuspicionKind(
        "bone",
        "Label on bone?",
        "A large part of a node is as bright as bone. Calcified nodes and streaks of contrast medium look alike.",
    ),
    SuspicionKind(
        "vessel",
        "Label in a vessel?",
        "A large part of a node is as bright and even as blood with contrast medium. Nodes that enhance strongly look "
        "alike.",
    ),
    SuspicionKind(
        "outside",
        "Outside the mediastinum?",
        "A node lies for the most part outside the region between the lungs, which is found from the image alone. "
        "Nodes of axilla, neck and abdomen do so rightly: training takes them for node, inference never reports them.",
    ),
    SuspicionKind(
        "sliver",
        "Only one slice thick?",
        "A piece of the source's label is wide but one slice thick. A slice may have been skipped or forgotten.",
    ),
)


def find_suspicions(cases: Sequence[ShownCase]) -> list[Suspicion]:
    """Everything that looks wrong, at most one of a kind in each case: by kind, the most striking first."""
    found = [one for case in cases if case.measures is not None for one in _of_case(case, case.measures)]
    compared = likeness(cases)
    found += [_mirrored(case, compared[case.name]) for case in cases if _is_mirrored(compared.get(case.name))]
    order = [kind.key for kind in KINDS]
    return sorted(found, key=lambda one: (order.index(one.kind), -one.weight, one.case.name))


def _of_case(case: ShownCase, measures: CaseMeasures) -> Iterator[Suspicion]:
    nodes = measures.nodes
    rules: tuple[tuple[str, Callable[[MarkedNode], float], float], ...] = (
        ("air", lambda node: node.air, AIR_SHARE),
        ("bone", lambda node: 0.0 if _is_blood(node, measures) else node.bright, BRIGHT_SHARE),
        ("vessel", lambda node: node.bright if _is_blood(node, measures) else 0.0, BRIGHT_SHARE),
        ("outside", lambda node: node.outside, OUTSIDE_SHARE),
    )
    known: set[MarkedNode] = set()
    for kind, share_of, least in rules:
        odd = [node for node in nodes if share_of(node) >= least and share_of(node) * node.volume_mm3 >= LEAST_MM3]
        odd = [node for node in odd if node not in known]  # what lies in lung lies outside the region too
        known.update(odd)
        if odd:
            worst = max(odd, key=lambda node: share_of(node) * node.volume_mm3)
            text = _node_text(kind, share_of(worst), worst, measures) + _more(len(odd) - 1, "node")
            yield Suspicion(kind, case, text, share_of(worst) * worst.volume_mm3, worst.box)
    if case.info.label_lost >= LOST_SHARE and not any(node.outside >= OUTSIDE_SHARE for node in nodes):
        text = f"{case.info.label_lost:.0%} of the annotation lies outside the box around the lungs, and is lost."
        yield Suspicion("outside", case, text, case.info.label_lost, None)
    if measures.shift is not None and is_shifted(measures.shift, len(nodes)):
        yield _shifted(case, measures.shift, nodes)
    slivers = measures.source.slivers if measures.source is not None else ()
    if slivers:
        widest = max(slivers, key=lambda one: one.short_axis_mm)
        size = f"{number(widest.long_axis_mm)} × {number(widest.short_axis_mm)} mm"
        text = f"A piece of {size} lies in a single slice of {number(widest.thickness_mm, 1)} mm in the source's label."
        yield Suspicion("sliver", case, text + _more(len(slivers) - 1, "piece"), widest.short_axis_mm, widest.box)


def _is_blood(node: MarkedNode, measures: CaseMeasures) -> bool:
    """Whether what is bright in a node is like blood: in a CT with contrast medium, and even."""
    with_contrast = measures.blood_hu is not None and measures.blood_hu >= CONTRAST_HU
    return with_contrast and node.bright_spread_hu <= max(EVEN_HU, EVEN_PART * node.bright_hu)


def _node_text(kind: str, share: float, node: MarkedNode, measures: CaseMeasures) -> str:
    of_node = f"{share:.0%} of a node of {number(node.volume_mm3 / 1000, 2)} cm³"
    bright, spread, blood = (number(hu or 0.0) for hu in (node.bright_hu, node.bright_spread_hu, measures.blood_hu))
    return {
        "air": f"{of_node} has the HU of air or lung (below {number(AIR_HU)} HU).",
        "bone": f"{of_node} is as bright as bone: {bright} ± {spread} HU, where this CT's blood has about {blood} HU.",
        "vessel": f"{of_node} is as bright and even as blood with contrast medium: {bright} ± {spread} HU, where this "
        f"CT's blood has about {blood} HU.",
        "outside": f"{of_node} lies outside the mediastinal region.",
    }[kind]


def _more(count: int, name: str) -> str:
    return f" So does {count} more {name}." if count == 1 else f" So do {count} more {name}s." if count > 1 else ""


def is_shifted(shift: Shift, nodes: int) -> bool:
    """Whether a label looks shifted against its image. Few nodes must fit much better, and not far away."""
    length = float(np.linalg.norm(shift.best_mm))
    few = nodes < FEW_NODES
    part = EDGE_PART_FEW if few else EDGE_PART
    return (
        LEAST_SHIFT_MM <= length <= (FAR_MM if few else np.inf)
        and shift.best_edge_hu >= LEAST_EDGE_HU
        and shift.best_edge_hu - shift.edge_hu >= LEAST_GAIN_HU
        and shift.edge_hu <= part * shift.best_edge_hu
        and shift.best_soft >= max(LEAST_SOFT, shift.soft + SOFT_GAIN)
        and shift.agreeing >= AGREEING
    )


def _shifted(case: ShownCase, shift: Shift, nodes: Sequence[MarkedNode]) -> Suspicion:
    text = (
        f"The label would fit better {_way(shift)}: the HU inside would exceed those around by "
        f"{number(shift.best_edge_hu)} instead of {number(shift.edge_hu)}, and {shift.best_soft:.0%} instead of "
        f"{shift.soft:.0%} of it would be soft tissue."
    )
    largest = max(nodes, key=lambda node: node.volume_mm3)
    return Suspicion("shifted", case, text, shift.best_edge_hu - shift.edge_hu, largest.box)


def _way(shift: Shift) -> str:
    """A shift in words, such as "3 mm up and 1.5 mm to the left"."""
    words = (("up", "down"), ("to the back", "to the front"), ("to the left", "to the right"))
    parts = [f"{abs(mm):g} mm {word[mm < 0]}" for mm, word in zip(shift.best_mm, words, strict=True) if mm]
    return " and ".join(parts)


def _is_mirrored(one: Likeness | None) -> bool:
    return one is not None and one.is_mirrored


def _mirrored(case: ShownCase, one: Likeness) -> Suspicion:
    text = (
        "The mirror image of this chest resembles the other patients' more than the chest itself does: the chest's "
        f"correlation with their mean is {number(one.mean, 2)}, that of the mirror image {number(-one.mean, 2)}."
    )
    return Suspicion("mirrored", case, text, -one.mean, None)
