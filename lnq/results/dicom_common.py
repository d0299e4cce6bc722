"""The parts that all DICOM objects of a case share: their maker and series, UIDs, dates and codes."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.charset import convert_encodings
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.sr.coding import Code

from lnq.dicom.header import SliceFile
from lnq.files import replace_atomically
from lnq.image.volume import Volume
from lnq.nodes.measure import Node
from lnq.results.dicom_reference import ReferencedSeries, hashed_uid, refer_to

LYMPH_NODE = Code("59441001", "SCT", "Lymph node")
TISSUE = Code("85756007", "SCT", "Tissue")  # the category of lymph nodes: context groups 7150 and 7166
MEDIASTINUM = Code("72410000", "SCT", "Mediastinum")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
COLOUR_RGB = (68, 172, 100)  # 3D Slicer's colour of lymph nodes

_SERIES_NUMBERS = {"SEG": 9101, "SR": 9102, "RTSTRUCT": 9103, "OT": 9104, "DOC": 9105}
_FOLLOWED = 10  # more, of a series on nodes that were followed from an earlier CT
_TEXT = re.compile(r"[ -\[\]-~]{1,64}")  # printable ASCII without backslash, at most what a header's text may hold


@dataclass(frozen=True)
class Maker:
    """The program that marked the nodes, as objects name it. Raises ValueError for text that no header can hold."""

    name: str
    version: str
    weights_sha256: str
    algorithm: str = "AUTOMATIC"  # SEMIAUTOMATIC where a person had a say

    def __post_init__(self) -> None:
        for field, text in (("name", self.name), ("version", self.version)):
            if not _TEXT.fullmatch(text):
                raise ValueError(f"A maker's {field} must be 1 to 64 ASCII characters, no backslash, not {text!r}")
        if not re.fullmatch(r"[0-9a-f]{64}", self.weights_sha256):
            raise ValueError(f"A maker's weights_sha256 must be 64 hex digits, not {self.weights_sha256!r}")


@dataclass(frozen=True)
class Track:
    """What a node is called in all objects, and in those of later CTs where it is found again."""

    identifier: str  # for people
    uid: str


@dataclass(frozen=True, eq=False)
class Origin:
    """The series, maker and labels that an object comes from.

    UIDs are hashes of these three: the same input gives the same UIDs, and another mask gives others. Objects of nodes
    that were followed from an earlier CT have UIDs of their own.
    """

    source: ReferencedSeries
    maker: Maker
    labels_sha256: str
    tracks: tuple[Track, ...] | None = None  # by number, of nodes that were followed from an earlier CT; else None

    def series_uid(self, modality: str) -> str:
        return self._uid("series", modality, *self._followed)

    def instance_uid(self, modality: str, content: str = "") -> str:
        """The UID of one object. `content` stands for anything in it that does not follow from the labels."""
        return self._uid("instance", modality, self.labels_sha256, content, *self._followed)

    def track(self, number: int) -> Track:
        """How a node is followed."""
        if self.tracks is not None:
            return self.tracks[number - 1]
        return Track(f"Lymph node {number}", self._uid("node", self.labels_sha256, str(number)))

    @property
    def _followed(self) -> tuple[str, ...]:
        return (
            () if self.tracks is None else ("followed", *(f"{track.uid} {track.identifier}" for track in self.tracks))
        )

    def device_uid(self) -> str:
        """The UID of the program with these weights, the same for every series."""
        return hashed_uid("device", *_words(self.maker))

    def _uid(self, *words: str) -> str:
        slices = self.source.slices
        of_slices = [header.SOPInstanceUID for header in slices]
        return hashed_uid(*words, *_words(self.maker), slices[0].SeriesInstanceUID, *of_slices)


def _words(maker: Maker) -> tuple[str, str, str]:
    return maker.name, maker.version, maker.weights_sha256


def origin_of(
    labels: Volume,
    nodes: Sequence[Node],
    slices: Sequence[SliceFile],
    maker: Maker,
    tracks: Sequence[Track] | None = None,
) -> Origin:
    """The origin of a case's objects. The arguments are those of `lnq.results.write_seg.write_seg`.

    Raises ValueError where labels and nodes do not fit together, and all that `refer_to` raises.
    """
    held, wanted = np.unique(labels.array[labels.array != 0]).tolist(), [node.number for node in nodes]
    if not held == wanted == list(range(1, len(nodes) + 1)):
        raise ValueError(f"Nodes must be numbered from 1 and the labels hold each number: {wanted} and {held}")
    if tracks is not None and len(tracks) != len(nodes):
        raise ValueError(f"{len(nodes)} nodes cannot have {len(tracks)} tracks")
    digest = hashlib.sha256(np.ascontiguousarray(labels.array, "<i2").data).hexdigest()
    return Origin(refer_to(labels, slices), maker, digest, None if tracks is None else tuple(tracks))


def complete(dataset: pydicom.Dataset, origin: Origin, modality: str) -> None:
    """Put patient, study, equipment, series and dates into an object. No date or time in it tells when it was made."""
    maker = origin.maker
    with pydicom.config.disable_value_validation():
        dataset.update(origin.source.study)
    dataset.Modality = modality
    dataset.SeriesInstanceUID = origin.series_uid(modality)
    dataset.SeriesNumber = _SERIES_NUMBERS[modality] + (0 if origin.tracks is None else _FOLLOWED)
    what = "Lymph nodes" if origin.tracks is None else "Lymph nodes followed"
    dataset.SeriesDescription = f"{what} by {maker.name} {maker.version}"[:64]
    dataset.InstanceNumber = 1
    dataset.Manufacturer = dataset.ManufacturerModelName = maker.name
    dataset.SoftwareVersions = maker.version
    dataset.DeviceSerialNumber = maker.weights_sha256
    for name in ("Series", "InstanceCreation", *(["Content"] if "ContentDate" in dataset else [])):
        setattr(dataset, f"{name}Date", origin.source.date)
        setattr(dataset, f"{name}Time", origin.source.time)
    dataset.ContentQualification = "RESEARCH"  # this program is not a product for patients' care
    for equipment in dataset.get("ContributingEquipmentSequence", ()):
        equipment.pop("ContributionDateTime", None)  # highdicom puts the current time there


def save(dataset: pydicom.Dataset, path: Path) -> None:
    """Write an object atomically. Raises OSError, saying which file could not be written."""
    path = Path(path)
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"{path.parent} does not exist or cannot be written to")
    with replace_atomically(path) as part, pydicom.config.disable_value_validation():
        # so that pydicom writes the texts of the CT as they are, instead of decoding and encoding them
        implicit, texts = dataset.file_meta.TransferSyntaxUID.is_implicit_VR, dataset.get("SpecificCharacterSet")
        correct_ambiguous_vr(dataset, True)
        dataset.set_original_encoding(implicit, True, convert_encodings(texts))
        try:
            dataset.save_as(part, enforce_file_format=True)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
