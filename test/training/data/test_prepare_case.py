from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.raw_pairs import NODE_HU, node_label, prepare_tiny, write_pair

from lnq.image.volume import Volume, make_affine
from lnq.inference.spec import CropSpec
from training.config import TINY
from training.data.prepare_case import component_centres
from training.data.prepared import CaseInfo, PreparedCase


def test_pair_becomes_a_prepared_case(thorax: Volume, tmp_path: Path) -> None:
    write_pair(tmp_path / "raw", "lnq2023-train-0001", thorax)
    prepare_tiny(tmp_path / "raw", tmp_path / "out")
    case = PreparedCase(tmp_path / "out" / "lnq2023-train-0001")
    image, label, region = (case.whole(name) for name in ("image", "label", "region"))
    assert image.shape == label.shape == region.shape == case.info.shape
    assert image.dtype == np.int16 and image.min() >= -1024
    assert case.info.spacing_mm == TINY.spacing_mm and not case.info.full and case.info.label_lost == 0.0
    wanted_mm3 = node_label(thorax).sum() * 125.0
    assert case.info.node_volumes_mm3 == (wanted_mm3,)
    assert label.sum() * np.prod(TINY.spacing_mm) == pytest.approx(wanted_mm3, rel=0.1)
    (centre,) = case.info.node_centres
    assert label[centre] == 1
    assert image[label > 0].mean() == pytest.approx(NODE_HU, abs=25)  # its border is blood of 160
    assert len(case.points) and all(region[tuple(p)] for p in case.points[:50])


def test_stray_pieces_are_sampled_only_where_there_is_no_node() -> None:
    node = np.zeros((6, 6, 6), np.uint8)
    node[0, 0, 0] = 1
    assert list(component_centres(node)) == [(0, 0, 0)]
    node[3, 3, 2:5] = 1
    assert list(component_centres(node)) == [(3, 3, 3)]
    assert list(component_centres(np.zeros((2, 2, 2), np.uint8))) == []


@pytest.mark.parametrize("value", [1, 255, 3])
def test_any_label_value_counts_as_node(thorax: Volume, tmp_path: Path, value: int) -> None:
    write_pair(tmp_path / "raw", "a", thorax, value=value)
    said = prepare_tiny(tmp_path / "raw", tmp_path / "out")
    assert set(np.unique(PreparedCase(tmp_path / "out" / "a").whole("label"))) == {0, 1}
    named = f"a: a-seg.nrrd has value {value}: every value above 0 was taken for node" in said
    assert named == (value != 1)


def test_touching_instances_are_several_nodes(thorax: Volume, tmp_path: Path) -> None:
    label = node_label(thorax)
    label[26:][label[26:] > 0] = 9
    write_pair(tmp_path / "raw", "a", thorax, thorax.with_array(label))
    said = prepare_tiny(tmp_path / "raw", tmp_path / "out")
    volumes = CaseInfo.read(tmp_path / "out" / "a").node_volumes_mm3
    assert volumes == ((label == 1).sum() * 125.0, (label == 9).sum() * 125.0)
    assert "a: a-seg.nrrd has 2 instances, of values 1, 9: every value above 0 was taken for node" in said


def test_label_of_another_grid_is_placed_by_geometry(thorax: Volume, tmp_path: Path) -> None:
    grid = Volume(np.zeros((40, 50, 60), np.uint8), make_affine((3, 2, 2), (-59, -49, -20)))
    label = grid.with_array(node_label(grid))
    write_pair(tmp_path / "raw", "same", thorax)
    write_pair(tmp_path / "raw", "other", thorax, label=label)
    prepare_tiny(tmp_path / "raw", tmp_path / "out")
    same, other = (PreparedCase(tmp_path / "out" / name) for name in ("same", "other"))
    a, b = same.whole("label") > 0, other.whole("label") > 0
    assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.85
    assert np.abs(np.argwhere(a).mean(axis=0) - np.argwhere(b).mean(axis=0)).max() < 0.3


def test_provenance_says_how_a_case_was_made(thorax: Volume, tmp_path: Path) -> None:
    write_pair(tmp_path / "raw", "a", thorax)
    prepare_tiny(tmp_path / "raw", tmp_path / "out")
    info = CaseInfo.read(tmp_path / "out" / "a")
    assert info.provenance["image_bytes"] == (tmp_path / "raw" / "a-ct.nrrd").stat().st_size
    crop = info.provenance["crop"]
    assert (info.crop, crop["lungs"], crop["warnings"]) == (CropSpec(margin_mm=10.0), 2, [])
    # the lungs of the phantom reach from L -116 to 116 mm: 273.5 mm - 157.5 mm and back, and 10 mm more
    low, high = crop["box"][2]
    assert -157.5 + 5 * (low - 0.5) == pytest.approx(-126, abs=7.5)
    assert -157.5 + 5 * (high - 0.5) == pytest.approx(126, abs=7.5)


def test_label_beyond_the_crop_is_reported(thorax: Volume, tmp_path: Path) -> None:
    label = node_label(thorax)
    label[20:24, 20:30, :2] = 1  # beside the body
    write_pair(tmp_path / "raw", "a", thorax, label=thorax.with_array(label))
    said = prepare_tiny(tmp_path / "raw", tmp_path / "out")
    lost = 80 / (80 + node_label(thorax).sum())
    assert CaseInfo.read(tmp_path / "out" / "a").label_lost == pytest.approx(lost, abs=1e-6)
    assert any(f"a: {lost:.1%} of the annotation lies outside the crop" in line for line in said)
