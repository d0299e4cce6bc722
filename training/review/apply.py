"""Apply readers' decisions to one case: its label of three states on the CT's grid."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lnq.image.itk import read_volume
from lnq.image.volume import Volume
from lnq.nodes.measure import Landmarks, measure_nodes
from training.data.sources.find import read_states
from training.data.sources.raw_case import RawCase
from training.data.sources.states import BACKGROUND, NODE, UNKNOWN
from training.review.decisions import Decisions, digest_of_ct, subject_of
from training.review.verdicts import FoundMaps, Outcome, three_states
from training.review.write import NUMBERS, PROBABILITY, read_found


@dataclass(frozen=True, eq=False)
class Reviewed:
    """A case with its new label."""

    case: RawCase
    ct: Volume
    label: Volume  # uint8 of BACKGROUND, NODE and UNKNOWN
    weights: tuple[str, ...]  # hashes of those that proposed

    @property
    def full(self) -> bool:
        """Whether nothing is unknown."""
        return not (self.label.array == UNKNOWN).any()

    def counts(self) -> dict[str, int]:
        """Number of voxels of each state."""
        count = np.bincount(self.label.array.ravel(), minlength=3)
        return {"background": int(count[BACKGROUND]), "node": int(count[NODE]), "unknown": int(count[UNKNOWN])}

    def write_dicom_seg(self, path: Path) -> None:
        """Write the nodes as a DICOM SEG object whose description says "partial" or "full", as the reader wants it."""
        from lnq.archive.open import open_series
        from lnq.results.dicom_common import Maker
        from lnq.results.write_seg import write_seg
        from lnq.version import __version__

        mask = self.label.with_array((self.label.array == NODE).astype(np.uint8))
        nodes, numbers = measure_nodes(mask, self.ct.array, mask.array.astype(np.float32), Landmarks(None, None))
        several = hashlib.sha256("".join(self.weights).encode()).hexdigest()
        digest = self.weights[0] if len(self.weights) == 1 else several
        maker = Maker(f"review, {'full' if self.full else 'partial'} annotation", __version__, digest, "SEMIAUTOMATIC")
        slices = open_series(self.case.slices, self.case.image.name).slices
        write_seg(path, mask.with_array(numbers), nodes, slices, maker)


def review_case(
    case: RawCase, folder: Path, decisions: Sequence[Decisions], outcome: Outcome, full_from_mm: float
) -> Reviewed:
    """The new label of a case whose candidates lie in `folder`.

    Raises ValueError where the CT is another one than that of the candidates, or a decision fits nothing in it.
    """
    ct, before = read_states(case)
    if digest_of_ct(ct) != subject_of(folder).ct:
        raise ValueError(f"{case.image.name} is another CT than the one that candidates were found in")
    numbers, probability = read_volume(folder / NUMBERS), read_volume(folder / PROBABILITY)
    if numbers.shape != ct.shape or probability.shape != ct.shape:
        raise ValueError(f"The maps in {folder} have another shape than {case.image.name}")
    on_ct = ct.with_array(probability.array)  # a file rounds the geometry
    listed = read_found(folder)
    starts = [(float(left), float(posterior), float(superior)) for left, posterior, superior in listed["starts"]]
    label = three_states(before.array, decisions, outcome, FoundMaps(numbers.array, on_ct, starts), full_from_mm)
    return Reviewed(case, ct, ct.with_array(label), tuple(listed["made_from"]["weights"]))
