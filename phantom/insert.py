"""Synthetic lymph nodes in real chest CTs: inserted into the mediastinal fat, with the CT's own noise and sharpness.

`python -m phantom.insert DIR -o OUT` writes cases of the challenge's names. All inserted nodes are annotated and the
CT's own are not: to train on that is the setting of partial annotation, and it is a detection test for what was
inserted.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from lnq.anatomy.crop import find_crop
from lnq.dicom.read import is_dicom_folder, read_dicom_series
from lnq.errors import ImageError
from lnq.image.itk import read_volume, write_volume
from lnq.image.resample import reorient_to_lps
from lnq.image.volume import Volume
from lnq.inference.spec import CropSpec
from phantom.nodes import NodeShape, draw_node, draw_node_hu, draw_short_axis_mm

FAT_HU = (-150.0, -40.0)  # after smoothing
SOFT_HU = -20.0  # above: vessel, heart, muscle, oesophagus
LUNG_HU = -250.0  # below: lung or airway
MAX_SOFT = 0.3  # part of a node that may lie on soft tissue: real nodes touch vessels
MAX_LUNG = 0.02
STERNUM_DEPTH, OESOPHAGUS_DEPTH, SPINE_DEPTH = 0.12, 0.4, 0.68  # parts of the region's depth, from the front
LOWER_CHEST = 0.62  # part of the lungs' height, from the apex
MIDLINE_MM = 30.0  # reach of the lower chest's places to each side: further out is the fat around stomach and liver
SUBSAMPLES = 5  # per voxel and axis through a slice, for partial volume
IMAGE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")


@dataclass(frozen=True, eq=False)
class Background:
    """A real CT (LPS axes) with what insertion needs to know of it."""

    ct: Volume
    smooth: np.ndarray  # float32 [Z, Y, X], HU without most of the noise
    candidates: np.ndarray  # [N, 3], indices of mediastinal fat voxels
    homogeneous: np.ndarray  # [M, 3], indices well inside soft tissue, where the noise is taken from
    edge_sigma_mm: float  # in-plane blur of the scanner and kernel
    phase: str


def study_background(volume: Volume) -> Background:
    """Find the mediastinal fat, the noise's source, the sharpness and the contrast phase of a CT in LPS axes.

    Raises ImageError where the lungs or the fat between them cannot be found.
    """
    crop = find_crop(volume, CropSpec(region_margin_mm=0.0))
    if crop.lungs_found < 2:
        raise ImageError("nodes can only be inserted into a CT with two lungs")
    smooth = _smooth(volume.array, volume.spacing_mm, 1.2)
    inner, corner = smooth[crop.box], np.array([s.start for s in crop.box])
    fat = _stations(crop.region, volume.spacing_mm[2]) & (inner > FAT_HU[0]) & (inner < FAT_HU[1])
    candidates = np.argwhere(fat) + corner
    if len(candidates) < 100:
        raise ImageError("there is no mediastinal fat in this CT to insert nodes into")
    soft = crop.region & (inner > 0) & (inner < 500)
    inside = ndimage.distance_transform_edt(soft, sampling=volume.spacing_mm) > 6.0
    homogeneous = np.argwhere(inside) + corner
    blood_hu = float(np.median(inner[inside])) if len(homogeneous) else 40.0
    phase = "none" if blood_hu < 90 else "arterial" if blood_hu > 200 else "venous"
    return Background(volume, smooth, candidates, homogeneous, _edge_sigma_mm(volume), phase)


def _stations(between_lungs: np.ndarray, column_mm: float) -> np.ndarray:
    """The part of the space between the lungs [Z, Y, X] where mediastinal nodes lie.

    Behind the sternum and before the spine, and in the lower third of the chest only beside the oesophagus, so near
    the midline: depth is counted from the front of the region, height from its top, the midline is that of the upper
    chest. `column_mm`: spacing along x.
    """
    used = np.flatnonzero(between_lungs.any(axis=(1, 2)))
    height = (used[-1] - np.arange(len(between_lungs))) / max(1, used[-1] - used[0])  # 0 at the apex
    rows = np.arange(between_lungs.shape[1])
    occupied = between_lungs.any(axis=2)  # [Z, Y]
    front = occupied.argmax(axis=1)
    back = len(rows) - occupied[:, ::-1].argmax(axis=1)
    depth = (rows[None] - front[:, None]) / np.maximum(back - front, 1)[:, None]
    low = height[:, None] > LOWER_CHEST
    allowed = (depth < SPINE_DEPTH) & (depth > np.where(low, OESOPHAGUS_DEPTH, STERNUM_DEPTH))
    columns = np.arange(between_lungs.shape[2])
    midline = np.average(columns, weights=between_lungs[~low[:, 0]].sum(axis=(0, 1)))
    central = np.abs(columns - midline) * column_mm <= MIDLINE_MM
    return between_lungs & allowed[:, :, None] & (central | ~low[:, :, None])


def insert_nodes(background: Background, seed: int, count: int) -> tuple[Volume, Volume, list[dict]]:
    """Insert up to `count` nodes of random shape and size; deterministic by seed.

    Returns the CT (int16), instance labels (uint16, 1..n) and, per node, label, short axis in mm and centre index.
    Nodes lie in fat, may touch soft tissue (at most 30 % of their volume) and never each other.
    """
    rng = np.random.default_rng(seed)
    ct = background.ct.array.astype(np.float32)
    labels = np.zeros(ct.shape, dtype=np.uint16)
    nodes: list[dict] = []
    for _ in range(count):
        shape = draw_node(rng, draw_short_axis_mm(rng))
        place = _find_place(rng, background, labels, shape)
        if place is None:
            continue
        centre, box, occupancy, offset = place
        hu = draw_node_hu(rng, background.phase) + offset + _noise(rng, background, occupancy.shape)
        ct[box] += occupancy * (hu - ct[box])
        label = len(nodes) + 1
        labels[box][occupancy >= 0.5] = label
        nodes.append({"label": label, "short_axis_mm": shape.short_axis_mm, "centre": [int(c) for c in centre]})
    ct = np.clip(np.rint(ct), -1024, 3071).astype(np.int16)
    return background.ct.with_array(ct), background.ct.with_array(labels), nodes


def _find_place(
    rng: np.random.Generator, background: Background, labels: np.ndarray, shape: NodeShape, tries: int = 60
) -> tuple[np.ndarray, tuple[slice, slice, slice], np.ndarray, np.ndarray] | None:
    """A random place in the fat where the node fits: centre, box, occupancy and HU offset; None if none was found."""
    for centre in rng.choice(background.candidates, tries):
        box, occupancy, offset = _render(shape, centre, background)
        volume = float(occupancy.sum())
        if not (occupancy >= 0.5).any() or labels[box][occupancy > 0.05].any():
            continue
        hu = background.smooth[box]
        soft = float(occupancy[hu > SOFT_HU].sum()) / volume
        lung = float(occupancy[hu < LUNG_HU].sum()) / volume
        if soft <= MAX_SOFT and lung <= MAX_LUNG:
            return centre, box, occupancy, offset
    return None


def _render(
    shape: NodeShape, centre: np.ndarray, background: Background
) -> tuple[tuple[slice, slice, slice], np.ndarray, np.ndarray]:
    """Occupancy and HU offset on the CT's grid: averaged through each slice, blurred in-plane like the CT."""
    spacing = np.array(background.ct.spacing_mm)
    reach = np.ceil((shape.reach_mm + 3 * background.edge_sigma_mm) / spacing).astype(int)
    low = np.maximum(centre - reach, 0)
    high = np.minimum(centre + reach + 1, background.ct.shape)
    z, y, x = (np.arange(a, b) - c for a, b, c in zip(low, high, centre, strict=True))
    shifts = (np.arange(SUBSAMPLES) + 0.5) / SUBSAMPLES - 0.5
    fine_z = (z[:, None] + shifts).ravel()
    grid = np.stack(np.meshgrid(fine_z * spacing[0], y * spacing[1], x * spacing[2], indexing="ij"), axis=-1)
    occupancy, offset = shape.render(grid, edge_mm=float(spacing[1]))
    sigma = (0.0, *(background.edge_sigma_mm / spacing[1:]))

    def on_grid(a: np.ndarray) -> np.ndarray:
        thick = a.reshape(len(z), SUBSAMPLES, len(y), len(x)).mean(axis=1)  # [Z, Y, X]
        return ndimage.gaussian_filter(thick, sigma)

    box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
    return box, on_grid(occupancy), on_grid(offset)


def _noise(rng: np.random.Generator, background: Background, size: tuple[int, ...]) -> np.ndarray:
    """The CT's own noise [Z, Y, X]: what a smoothed copy lacks, at a random place inside homogeneous tissue."""
    if len(background.homogeneous) == 0:
        return np.zeros(size, dtype=np.float32)
    corner_limit = np.array(background.ct.shape) - size
    corner = rng.choice(background.homogeneous) - np.array(size) // 2
    box = tuple(slice(c, c + n) for c, n in zip(np.clip(corner, 0, np.maximum(corner_limit, 0)), size, strict=True))
    noise = background.ct.array[box] - background.smooth[box]
    spread = 1.4826 * np.median(np.abs(noise - np.median(noise)))
    return np.clip(noise, -3 * spread, 3 * spread)  # an edge that the box touches is no noise


def _smooth(array: np.ndarray, spacing_mm: tuple[float, float, float], sigma_mm: float) -> np.ndarray:
    """In-plane Gaussian, so that thick slices keep their own HU."""
    sigma = (0.0, sigma_mm / spacing_mm[1], sigma_mm / spacing_mm[2])
    return ndimage.gaussian_filter(np.maximum(array, -1024).astype(np.float32), sigma)


def _edge_sigma_mm(volume: Volume) -> float:
    """In-plane blur as the sigma of a Gaussian: step height / (steepest slope * sqrt(2 pi)) across lung surfaces.

    Measured along x where a lung voxel (below -700 HU) and a soft one (above 0) lie within 6 mm of each other.
    """
    step = max(2, round(6.0 / volume.spacing_mm[2]))
    hu = volume.array[:, ::4].astype(np.float32)
    a, b = hu[:, :, :-step], hu[:, :, step:]
    edge = (np.minimum(a, b) < -700) & (np.maximum(a, b) > 0) & (np.maximum(a, b) < 200) & (np.minimum(a, b) > -950)
    slope = np.abs(np.diff(hu, axis=2))  # [Z, Y, X - 1]
    steepest = ndimage.maximum_filter1d(slope, step, axis=2, origin=-(step // 2))[:, :, : a.shape[2]]
    if not edge.any():
        return 0.7
    sigma = np.abs(a - b)[edge] / (steepest[edge] * np.sqrt(2 * np.pi)) * volume.spacing_mm[2]
    return float(np.clip(np.percentile(sigma, 25), 0.3, 1.2))


def find_backgrounds(folder: Path) -> list[Path]:
    """DICOM series folders and image files directly in `folder` (or the folder itself, if it is a series)."""
    if is_dicom_folder(folder):
        return [folder]
    return sorted(
        p for p in folder.iterdir() if (p.is_dir() and is_dicom_folder(p)) or p.name.lower().endswith(IMAGE_SUFFIXES)
    )


def write_cases(source: Path, out: Path, split: str, first_number: int, copies: int, count: int, seed: int) -> None:
    """Write `copies` cases of one real CT with different inserted nodes, named `lnq2023-<split>-NNNN-*.nrrd`."""
    volume = read_dicom_series(source) if source.is_dir() else read_volume(source)
    background = study_background(reorient_to_lps(volume)[0])
    for copy in range(copies):
        ct, labels, nodes = insert_nodes(background, seed + copy, count)
        base = f"lnq2023-{split}-{first_number + copy:04d}"
        write_volume(labels, out / f"{base}-nodes.nrrd")
        write_volume(labels.with_array((labels.array > 0).astype(np.uint8)), out / f"{base}-seg.nrrd")
        info = {"full": False, "background": source.name, "seed": seed + copy, "phase": background.phase}
        (out / f"{base}-info.json").write_text(json.dumps(info | {"nodes": nodes}, indent=1) + "\n")
        write_volume(ct, out / f"{base}-ct.nrrd")  # last: a case with its CT is complete


def main() -> int:
    """Command line; 0 if all CTs were used, 1 if some could not be, 2 if there is none or not the one asked for."""
    parser = argparse.ArgumentParser(prog="python -m phantom.insert", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with DICOM series folders or image files")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--only", nargs="*", help="names in the folder to use (default: all)")
    parser.add_argument("--copies", type=int, default=8, help="cases per CT")
    parser.add_argument("--nodes", type=int, default=16, help="nodes per case, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first-number", type=int, default=9001, help="number of the first case")
    parser.add_argument("--split", choices=("train", "val", "test"), default="train", help="part of the file names")
    options = parser.parse_args()
    sources = find_backgrounds(options.folder) if options.folder.is_dir() else []
    unknown = sorted(set(options.only or ()) - {s.name for s in sources})
    if unknown:
        print(f"{options.folder} holds no CT named {', '.join(unknown)}", file=sys.stderr)
        return 2
    if options.only:
        sources = [s for s in sources if s.name in options.only]
    if not sources:
        print(f"{options.folder} holds no CT to insert nodes into", file=sys.stderr)
        return 2
    options.output.mkdir(parents=True, exist_ok=True)
    failed = 0
    for index, source in enumerate(sources):
        first = options.first_number + index * options.copies
        try:
            seed = options.seed + index * options.copies
            write_cases(source, options.output, options.split, first, options.copies, options.nodes, seed)
            print(f"{source.name}: {options.copies} cases from {first:04d}", flush=True)
        except ImageError as error:
            failed += 1
            print(f"{source.name} is left out: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
