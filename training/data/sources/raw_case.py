"""A case as its source holds it, before preparation."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lnq.inference.spec import Triple
from training.data.splits import Split

Annotation = Literal["auto", "full", "partial"]
"""Whether all nodes of a case are annotated: as its source says ("auto"), or overriding the source."""


@dataclass(frozen=True)
class RawCase:
    """A CT with its label, and what its source says about them."""

    name: str
    image: Path  # a file or a DICOM folder; with `slices`, the folder of the first one
    label: Path | None  # an image file or a DICOM SEG object; None where nobody annotated the CT
    full: bool  # all of its nodes are annotated
    patient: str
    split: Split
    slices: tuple[Path, ...] = ()  # files of a DICOM series, in any order
    uids: dict[str, str] = field(default_factory=dict)  # of a DICOM series and its SEG object
    problem: str = ""  # why it cannot be prepared, where its source shows that already
    ignore: int | None = None  # value of the label's unknown voxels: then 0 is background, not just not annotated
    fold: int | None = None  # of the cases for training, where the source has folds

    @property
    def told(self) -> bool:
        """Whether the label tells background and unknown apart, in a case that is annotated in part."""
        return self.ignore is not None and not self.full

    @property
    def label_name(self) -> str:
        """The label's file name, "" where there is no label."""
        return "" if self.label is None else self.label.name

    def files(self) -> dict[str, Any]:
        """Names, sizes and UIDs that tell whether something was made from these files, and how they are annotated.

        Raises OSError where a file is missing.
        """
        sizes = {"image_bytes": self.image.stat().st_size} if not self.slices else {"slices": len(self.slices)}
        names = {"image": self.image.name, "label": self.label_name, "full": self.full}
        if self.label is not None:
            sizes |= {"label_bytes": self.label.stat().st_size}
        states = {"ignore": self.ignore} if self.ignore is not None else {}
        return names | sizes | states | self.uids

    def provenance(self, spacing_mm: Triple) -> dict[str, Any]:
        """The files of a prepared case, and its spacing. Raises OSError where a file is missing."""
        return self.files() | {"spacing_mm": list(spacing_mm)}
