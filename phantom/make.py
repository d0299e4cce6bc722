"""From a seed to a phantom: CT, complete truth, partial annotation."""

from dataclasses import dataclass

import numpy as np

from lnq.image.volume import Volume, make_affine
from phantom import physics
from phantom.annotate import choose_partial
from phantom.patient import Patient, draw_patient
from phantom.place import Node
from phantom.render import render
from phantom.scene import build_scene

PARTS = (
    "patient", "body", "diaphragm", "mediastinum", "spine", "nodes", "texture", "lungs", "findings", "shoulders",
    "abdomen", "grid", "scanner", "noise", "partial",
)  # fmt: skip
# thickness of slices in mm and how often (median 3, as in the challenge's data)
SLICE_MM = ((1.0, 0.08), (1.25, 0.12), (2.0, 0.12), (2.5, 0.18), (3.0, 0.25), (5.0, 0.25))


@dataclass(frozen=True, eq=False)
class Phantom:
    """ct: int16 HU. nodes: uint16, one value per node, 0 elsewhere. partial: uint8, the annotated nodes are 1.

    info: seed, phase, spacing_mm, and per node label, station, kind, short_axis_mm, volume_mm3, centre_mm (patient
    LPS), annotated.
    """

    ct: Volume
    nodes: Volume
    partial: Volume
    info: dict


def make_phantom(
    seed: int,
    spacing_mm: tuple[float, float, float] | None = None,
    size: int | tuple[int, int, int] | None = None,
    phase: str | None = None,
    progress=None,
) -> Phantom:
    """A synthetic chest CT with 5 to 25 lymph nodes; the same arguments give the same phantom.

    spacing_mm (z, y, x): drawn where None (slices of 1-5 mm, a field of view of 320-420 mm over `size` pixels).
    size: pixels of a side, or (z, y, x) voxels; None is 512, or what the field of view needs at a given spacing.
    phase: "none", "arterial" or "venous"; None is drawn. progress: called with the share done, 0..1.
    """
    streams = dict(
        zip(PARTS, (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(len(PARTS))), strict=True)
    )
    patient = draw_patient(streams["patient"], phase)
    spacing, axes = draw_grid(patient, streams["grid"], spacing_mm, size)
    scene = build_scene(patient, streams)
    hu, labels = render(scene, *axes, spacing[0], progress)
    scanner = physics.draw_scanner(streams["scanner"], spacing[0])
    image = physics.to_image(hu, scanner, spacing[1:], streams["noise"])
    labels, records = _describe(scene.nodes, labels, patient, float(np.prod(spacing)))
    annotated = choose_annotated(records, streams["partial"])
    for record in records:
        record["annotated"] = record["label"] in annotated
    affine = make_affine(spacing, origin_mm=(float(axes[2][0]), float(axes[1][0]), float(axes[0][0])))
    info = {
        "seed": seed, "phase": patient.phase, "female": patient.female, "scale": patient.scale,
        "fatness": patient.fatness, "spacing_mm": spacing, "noise_hu": scanner.noise_hu,
        "nodes": records,
    }  # fmt: skip
    partial = np.isin(labels, list(annotated)).astype(np.uint8)
    return Phantom(Volume(image, affine), Volume(labels, affine), Volume(partial, affine), info)


def draw_grid(
    patient: Patient, rng: np.random.Generator, spacing_mm, size
) -> tuple[tuple[float, float, float], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Spacing (z, y, x) and the voxel centres' coordinates (z, y, x) in mm."""
    view_mm = float(np.clip(patient.scale[0] * rng.uniform(335, 430), 315, 470))
    slice_mm = float(rng.choice([s for s, _ in SLICE_MM], p=[p for _, p in SLICE_MM]))
    top, bottom = (float(v) * patient.scale[2] for v in (rng.uniform(92, 128), rng.uniform(-205, -170)))
    centre = (float(2 + rng.normal(0, 8)), float(rng.normal(0, 6)))
    shape = (None, size, size) if size is None or isinstance(size, int) else tuple(size)
    if spacing_mm is None:
        pixel = view_mm / (shape[1] or 512)
        spacing = (slice_mm, pixel, pixel)
    else:
        spacing = (float(spacing_mm[0]), float(spacing_mm[1]), float(spacing_mm[2]))
    if min(spacing) <= 0:
        raise ValueError(f"spacing_mm must be positive, not {spacing}")
    rows, columns = (int(n or np.ceil(view_mm / s)) for n, s in zip(shape[1:], spacing[1:], strict=True))
    slices = int(shape[0] or np.ceil((top - bottom) / spacing[0]))
    middle = 0.5 * (top + bottom)
    z, y, x = (
        (np.arange(n) - (n - 1) / 2) * s + c
        for n, s, c in zip((slices, rows, columns), spacing, (middle, *centre), strict=True)
    )
    return spacing, (z, y, x)


def _describe(
    nodes: list[Node], labels: np.ndarray, patient: Patient, voxel_mm3: float
) -> tuple[np.ndarray, list[dict]]:
    """Labels renumbered 1..n without the nodes that fill no voxel, and a record of each node."""
    counts = np.bincount(labels.ravel(), minlength=len(nodes) + 1)
    number = np.zeros(len(nodes) + 1, dtype=np.uint16)
    records: list[dict] = []
    for i, node in enumerate(nodes):
        if counts[i + 1] == 0:
            continue
        number[i + 1] = len(records) + 1
        centre = patient.pose.to_image(node.centre_mm)[::-1]
        records.append(
            {
                "label": len(records) + 1, "station": node.station, "kind": node.shape.kind,
                "short_axis_mm": round(node.shape.short_axis_mm, 2), "volume_mm3": float(counts[i + 1] * voxel_mm3),
                "centre_mm": [round(float(c), 2) for c in centre], "hu": round(node.hu, 1),
            }
        )  # fmt: skip
    return number[labels], records


def choose_annotated(records: list[dict], rng: np.random.Generator) -> set[int]:
    """Labels of the nodes that get annotated."""
    return {records[i]["label"] for i in choose_partial(rng, [r["short_axis_mm"] for r in records])}
