"""Write the nodes of a DICOM series as a DICOM SEG object, with one segment per node."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom
from pydicom.uid import CTImageStorage

from lnq.dicom.header import SliceFile
from lnq.image.volume import Volume
from lnq.nodes.measure import Node
from lnq.results.dicom_common import (
    ARTIFICIAL_INTELLIGENCE,
    COLOUR_RGB,
    LYMPH_NODE,
    MEDIASTINUM,
    TISSUE,
    Maker,
    Origin,
    Track,
    complete,
    origin_of,
    save,
)

if TYPE_CHECKING:
    import highdicom


def write_seg(
    path: Path,
    labels: Volume,
    nodes: Sequence[Node],
    slices: Sequence[SliceFile],
    maker: Maker,
    tracks: Sequence[Track] | None = None,
) -> None:
    """Write a BINARY segmentation of the nodes. Slices without a node have no frame.

    Without nodes, one segment has an empty frame on every slice. `labels`, integers [Z, Y, X] on the CT's own grid,
    holds each node's number in its voxels. `slices` are the CT's, in the order of the first axis. `tracks` are those of
    nodes that were followed from an earlier CT, by number. The same arguments give the same bytes. Raises ValueError,
    ImageError and OSError as `origin_of` and `save` do.
    """
    import highdicom

    origin = origin_of(labels, nodes, slices, maker, tracks)
    first = origin.source.slices[0]
    segmentation = highdicom.seg.Segmentation(
        source_images=[_as_image(z, origin) for z in range(len(origin.source.slices))],
        pixel_array=labels.array.astype(np.uint16),
        segmentation_type="BINARY",
        segment_descriptions=_segments(nodes, origin),
        series_instance_uid=origin.series_uid("SEG"),
        series_number=1,
        sop_instance_uid=origin.instance_uid("SEG"),
        instance_number=1,
        manufacturer=maker.name,
        manufacturer_model_name=maker.name,
        software_versions=maker.version,
        device_serial_number=maker.weights_sha256,
        pixel_measures=highdicom.PixelMeasuresSequence(first.PixelSpacing, first.SliceThickness, labels.spacing_mm[0]),
        omit_empty_frames=bool(nodes),
        content_label="LYMPH_NODES",
        content_description="Mediastinal lymph nodes" if nodes else "No mediastinal lymph node was found",
        specific_character_set=None,
    )
    if origin.source.frames[0] is not None:
        _refer_to_frames(segmentation, origin)
    complete(segmentation, origin, "SEG")
    dimensions = origin.instance_uid("SEG", "dimensions")
    for item in (*segmentation.DimensionOrganizationSequence, *segmentation.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions
    save(segmentation, path)


def _as_image(z: int, origin: Origin) -> pydicom.Dataset:
    """Slice `z` as an object of its own: highdicom takes the frames of one object only where it has all of them."""
    header = origin.source.slices[z]
    if origin.source.frames[z] is None:
        return header
    image = copy.deepcopy(header)
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, _uid_of_frame(z, origin)
    return image


def _uid_of_frame(z: int, origin: Origin) -> str:
    return origin.instance_uid("SEG", f"slice {z}")


def _refer_to_frames(segmentation: pydicom.Dataset, origin: Origin) -> None:
    """Put references to the frames of multi-frame objects where `_as_image` made highdicom refer to objects."""
    slices = {_uid_of_frame(z, origin): z for z in range(len(origin.source.slices))}
    for groups in segmentation.PerFrameFunctionalGroupsSequence:
        for derivation in groups.get("DerivationImageSequence", ()):
            for item in derivation.SourceImageSequence:
                origin.source.point_to(slices[item.ReferencedSOPInstanceUID], item)
    (series,) = segmentation.ReferencedSeriesSequence
    kept = series.ReferencedInstanceSequence[: len(origin.source.objects)]
    for item, header in zip(kept, origin.source.objects, strict=True):
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    series.ReferencedInstanceSequence = kept


def _segments(nodes: Sequence[Node], origin: Origin) -> list[highdicom.seg.SegmentDescription]:
    return [_segment(node.number, True, origin) for node in nodes] or [_segment(1, False, origin)]


def _segment(number: int, found: bool, origin: Origin) -> highdicom.seg.SegmentDescription:
    import highdicom

    maker, track = origin.maker, origin.track(number) if found else None
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=track.identifier if track else "No lymph node",
        segmented_property_category=TISSUE,
        segmented_property_type=LYMPH_NODE,
        algorithm_type=maker.algorithm,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            maker.name, ARTIFICIAL_INTELLIGENCE, maker.version, parameters={"weights_sha256": maker.weights_sha256}
        ),
        tracking_uid=track.uid if track else None,
        tracking_id=track.identifier if track else None,
        anatomic_regions=[MEDIASTINUM],
        display_color=highdicom.color.CIELabColor.from_rgb(*COLOUR_RGB),
    )
