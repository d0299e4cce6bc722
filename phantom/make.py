"""From a seed to a phantom: CT, complete truth and partial annotation."""

from dataclasses import dataclass

import numpy as np

from lnq.image.volume import Volume, make_affine
from phantom import physics
from phantom.annotate import HURRIED, Annotator
from phantom.atlas import SVC
from phantom.domain import Domain, shift_patient, shift_scanner, slice_mm_of
from phantom.patient import Patient, draw_patient
from phantom.place import PlacedNode
from phantom.render import render
from phantom.scene import Scene, build_scene

# Parts of a phantom, each with random numbers of its own. A new part comes last, or all phantoms change.
PARTS = (
    "patient", "body", "diaphragm", "mediastinum", "spine", "nodes", "texture", "lungs", "findings", "shoulders",
    "abdomen", "grid", "scanner", "noise", "partial", "domain",
)  # fmt: skip
STREAKS_FROM_HU = 280.0  # of the vena cava: contrast medium that dense makes streaks
# Thickness of slices in mm, and how often it is drawn. The median is 3 mm, as in the challenge's data.
SLICE_MM = ((1.0, 0.08), (1.25, 0.12), (2.0, 0.12), (2.5, 0.18), (3.0, 0.25), (5.0, 0.25))

Grid = tuple[tuple[float, float, float], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""Spacing and the coordinates of the voxels' centres along each axis, both z, y, x in mm."""


@dataclass(frozen=True)
class PhantomNode:
    """One node of a phantom."""

    label: int  # its value in `Phantom.nodes`
    station: str
    kind: str  # one of phantom.nodes.KINDS
    short_axis_mm: float
    volume_mm3: float
    centre_mm: tuple[float, float, float]  # x, y, z in the patient's frame, LPS
    hu: float
    annotated: bool  # whether it is part of the partial annotation


@dataclass(frozen=True)
class PhantomInfo:
    """What was drawn for a phantom."""

    seed: int
    phase: str
    domain: Domain
    female: bool
    scale: tuple[float, float, float]  # x, y, z, as parts of the reference patient's size
    fatness: float  # 1 = average
    spacing_mm: tuple[float, float, float]  # z, y, x
    noise_hu: float
    nodes: tuple[PhantomNode, ...]


@dataclass(frozen=True, eq=False)
class Phantom:
    """A synthetic chest CT with its truth. All volumes have one grid."""

    ct: Volume  # int16 HU
    nodes: Volume  # uint16, one value per node, 0 elsewhere
    partial: Volume  # uint8, 1 in the annotated nodes, 0 elsewhere
    info: PhantomInfo


def make_phantom(
    seed: int,
    spacing_mm: tuple[float, float, float] | None = None,
    size: int | tuple[int, int, int] | None = None,
    phase: str | None = None,
    annotator: Annotator = HURRIED,
    domain: Domain = "usual",
) -> Phantom:
    """A synthetic chest CT with up to 25 lymph nodes. The same arguments give the same phantom.

    spacing_mm (z, y, x): None draws slices of 1 to 5 mm, and a field of view that `size` pixels cover.
    size: pixels of a side, or voxels z, y, x. None means 512, or at a given spacing what the field of view needs.
    phase: "none", "arterial" or "venous". None draws it.
    domain: see `phantom.domain`. Of one seed, all domains have the same patient, but not the same nodes.
    annotator: makes the partial annotation. Another one leaves the CT and the truth as they are.
    Raises ValueError for a spacing that is not positive and for another phase.
    """
    streams = streams_of(seed)
    patient = shift_patient(draw_patient(streams["patient"], phase), domain, streams["domain"])
    grid = draw_grid(patient, streams, spacing_mm, size, domain)
    scene = build_scene(patient, streams, domain)
    ct, labels, noise_hu = scan(scene, streams, grid, domain)
    labels, nodes = _describe(scene.nodes, labels, patient, ct.voxel_volume_mm3, streams["partial"], annotator)
    info = PhantomInfo(
        seed=seed,
        phase=patient.phase,
        domain=domain,
        female=patient.female,
        scale=patient.scale,
        fatness=patient.fatness,
        spacing_mm=ct.spacing_mm,
        noise_hu=noise_hu,
        nodes=nodes,
    )
    partial = annotator.outline(streams["partial"], labels, [node.label for node in nodes if node.annotated])
    return Phantom(ct, ct.with_array(labels), ct.with_array(partial), info)


def streams_of(seed: int) -> dict[str, np.random.Generator]:
    """Random numbers for each of `PARTS`."""
    seeds = np.random.SeedSequence(seed).spawn(len(PARTS))
    return dict(zip(PARTS, (np.random.default_rng(own) for own in seeds), strict=True))


def scan(
    scene: Scene,
    streams: dict[str, np.random.Generator],
    grid: Grid,
    domain: Domain = "usual",
) -> tuple[Volume, np.ndarray, float]:
    """The CT of a scene in int16 HU, labels uint16 on its grid, 1 + index into the scene's nodes, and the noise in HU.

    `streams` and `grid` are those of `streams_of` and `draw_grid`.
    """
    patient, (spacing, axes) = scene.patient, grid
    hu, labels = render(scene, *axes, spacing[0])
    if domain != "usual" and patient.hu["svc"] >= STREAKS_FROM_HU:
        vein = patient.pose.to_image(patient.place(SVC)[:, ::-1])
        strength = float(streams["domain"].uniform(15, 45))
        physics.add_streaks(hu, axes, vein, strength, streams["domain"])
    scanner = shift_scanner(physics.draw_scanner(streams["scanner"], spacing[0]), domain, streams["domain"])
    image = physics.to_image(hu, scanner, spacing[1:], streams["noise"])
    affine = make_affine(spacing, origin_mm=(float(axes[2][0]), float(axes[1][0]), float(axes[0][0])))
    return Volume(image, affine), labels, scanner.noise_hu


def draw_grid(
    patient: Patient,
    streams: dict[str, np.random.Generator],
    spacing_mm: tuple[float, float, float] | None,
    size: int | tuple[int, int, int] | None,
    domain: Domain,
) -> Grid:
    """Spacing and the coordinates of the voxels' centres along each axis, both z, y, x in mm.

    Raises ValueError for a spacing that is not positive.
    """
    rng = streams["grid"]
    view_mm = float(np.clip(patient.scale[0] * rng.uniform(335, 430), 315, 470))
    slice_mm = float(rng.choice([s for s, _ in SLICE_MM], p=[p for _, p in SLICE_MM]))
    slice_mm = slice_mm_of(domain, slice_mm, streams["domain"])
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
    nodes: list[PlacedNode],
    labels: np.ndarray,
    patient: Patient,
    voxel_mm3: float,
    rng: np.random.Generator,
    annotator: Annotator,
) -> tuple[np.ndarray, tuple[PhantomNode, ...]]:
    """Labels numbered 1 to n without the nodes that fill no voxel, and a record of each node.

    labels: uint16 [Z, Y, X], 1 + index into `nodes`. rng: with it `annotator` draws which are annotated.
    """
    voxels = np.bincount(labels.ravel(), minlength=len(nodes) + 1)
    seen = [i for i in range(len(nodes)) if voxels[i + 1]]
    sizes = [round(nodes[i].shape.short_axis_mm, 2) for i in seen]
    annotated = annotator.choose(rng, sizes)
    number = np.zeros(len(nodes) + 1, dtype=np.uint16)
    records = []
    for k, (i, size) in enumerate(zip(seen, sizes, strict=True)):
        node, number[i + 1] = nodes[i], k + 1
        x, y, z = (round(float(c), 2) for c in patient.pose.to_image(node.centre_mm)[::-1])
        volume = float(voxels[i + 1] * voxel_mm3)
        hu = round(node.hu, 1)
        records.append(PhantomNode(k + 1, node.station, node.shape.kind, size, volume, (x, y, z), hu, k in annotated))
    return number[labels], tuple(records)
