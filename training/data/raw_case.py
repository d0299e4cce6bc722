"""A case as its source has it, before it is prepared."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lnq.inference.spec import Triple
from training.data.splits import Split

Annotation = Literal["auto", "full", "partial"]
"""What a case is annotated like: as its source says, or whatever that says."""


@dataclass(frozen=True)
class RawCase:
    """A CT with its label, and what its source says of it."""

    name: str
    image: Path  # a file or a DICOM folder; for `slices` the folder of the first
    label: Path  # an image file or a DICOM SEG object
    full: bool  # all of its nodes are annotated
    patient: str
    split: Split
    slices: tuple[Path, ...] = ()  # the files of a DICOM series, in no order
    uids: dict[str, str] = field(default_factory=dict)  # of a DICOM series and its SEG object
    problem: str = ""  # why it cannot be prepared, where its source tells already

    def provenance(self, spacing_mm: Triple) -> dict[str, Any]:
        """What tells whether a prepared case is still the one of these files. Raises OSError where one is missing."""
        sizes = {"image_bytes": self.image.stat().st_size} if not self.slices else {"slices": len(self.slices)}
        sizes |= {"label_bytes": self.label.stat().st_size}
        names = {"image": self.image.name, "label": self.label.name, "full": self.full}
        return names | sizes | self.uids | {"spacing_mm": list(spacing_mm)}
