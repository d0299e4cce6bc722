"""Certain background, by hand on drawn tissue, and on phantoms whose truth is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.prepared_cases import fake_case

from lnq.plain import to_plain
from phantom.annotate import Annotator
from phantom.domain import Domain
from phantom.write import write_phantom
from training.command import plain_console
from training.data import certain as module
from training.data.certain import (
    CERTAIN,
    VERSION,
    CertainFacts,
    add_certain,
    certain_background,
    read_certain,
    refuse_missing,
)
from training.data.preparation import Preparation, prepare_cases
from training.data.prepared import PreparedCase

SPACING_MM = (3.0, 1.5, 1.5)
CLIP_HU = (-40.0, 160.0)  # so that bright begins at 210 HU
SHAPE = (24, 48, 48)
NUMBERS = (1, 2, 3, 4)  # of phantoms


def found(hu: np.ndarray, node: np.ndarray | None = None, region: np.ndarray | None = None) -> np.ndarray:
    node = np.zeros(SHAPE, np.uint8) if node is None else node
    return certain_background(hu, node, np.ones(SHAPE, np.uint8) if region is None else region, SPACING_MM, CLIP_HU)


@pytest.mark.parametrize(
    ("hu", "certain"),
    [(-1000, True), (-210, True), (-190, False), (-160, False), (-140, True), (-40, True), (205, False), (215, True)],
)
def test_air_fat_and_what_is_brighter_than_any_node_are_certain(hu: int, certain: bool) -> None:
    slab = np.full(SHAPE, hu, np.int16)
    slab[:, :, ::8] = -600  # no ball fits between walls of lung 12 mm apart
    middle = found(slab)[:, :, 4]
    assert middle.all() == middle.any() == certain


def test_fat_beside_soft_tissue_is_unknown() -> None:
    """It may be the border of a node, which fills a part of its voxels."""
    hu = np.full(SHAPE, -100, np.int16)
    hu[:, :, 24] = 40  # a sheet, smoothed to a deviation of 1 mm: soft in one column of 1.5 mm
    certain = found(hu)
    assert certain[:, :, :23].all() and not certain[:, :, 23:26].any() and certain[:, :, 26:].all()


def ball(radius_mm: float) -> np.ndarray:
    index = np.moveaxis(np.indices(SHAPE), 0, -1) - (np.array(SHAPE) - 1) / 2
    inside: np.ndarray = np.linalg.norm(index * SPACING_MM, axis=-1) <= radius_mm
    return inside


@pytest.mark.parametrize(("radius_mm", "certain"), [(10.0, False), (18.0, True)])
def test_soft_tissue_is_certain_where_a_ball_of_12_mm_fits(radius_mm: float, certain: bool) -> None:
    """Of a large ball all but a shell of a voxel is, as its surface is smoothed."""
    hu = np.where(ball(radius_mm), 60, -600).astype(np.int16)
    inner = ball(radius_mm - 4.0)
    assert found(hu)[inner].all() == certain
    assert found(hu)[inner].any() == certain


def test_a_wing_of_a_large_body_stays_unknown() -> None:
    hu = np.where(ball(20.0), 60, -600).astype(np.int16)
    hu[11:13, 22:26, :] = 60  # 6 mm thick, through the ball and out at both sides
    assert found(hu)[11:13, 22:26, 18:30].all()
    assert not found(hu)[11:13, 23:25, 3:6].any()


def test_outside_the_region_all_is_certain_and_beside_an_annotation_nothing_for_its_sake() -> None:
    """Its border may be drawn too far inside."""
    hu = np.where(ball(10.0), 60, -170).astype(np.int16)  # between air and fat: unknown
    region = np.zeros(SHAPE, np.uint8)
    region[:, :, 4:-4] = 1
    node = np.zeros(SHAPE, np.uint8)
    node[12, 24, 24] = 1
    certain = found(hu, node, region)
    assert certain[:, :, :4].all() and certain[:, :, -4:].all()
    assert not certain[:, :, 4:-4].any()


@pytest.mark.parametrize("surroundings", [-100, -800])
def test_where_a_border_is_drawn_too_far_inside_no_node_is_certain(surroundings: int) -> None:
    hu = np.where(ball(9.0), 60, surroundings).astype(np.int16)
    certain = found(hu, ball(6.0).astype(np.uint8))
    assert not certain[ball(9.0)].any() and certain[~ball(14.0)].all()


@pytest.mark.slow
@pytest.mark.parametrize("domain", ["usual", "shifted"])
def test_it_holds_few_true_nodes_where_borders_are_off(domain: Domain, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    for number in NUMBERS:
        annotator = Annotator(0.2, off_voxels=2)
        write_phantom(tmp_path / "raw", "train", number, 7000 + number, size=256, annotator=annotator, domain=domain)
    prepared = {}
    for annotation, label in (("partial", "seg"), ("full", "nodes")):
        names = [f"lnq2023-train-{number:04d}" for number in NUMBERS]
        rows = [f"{name},raw/{name}-ct.nrrd,raw/{name}-{label}.nrrd,{annotation}" for name in names]
        (tmp_path / f"{annotation}.csv").write_text("\n".join(["case,image,label,annotation", *rows]) + "\n")
        wanted = Preparation((tmp_path / f"{annotation}.csv",), tmp_path / annotation, SPACING_MM)
        assert prepare_cases(wanted, plain_console())
        prepared[annotation] = [PreparedCase(tmp_path / annotation / name) for name in names]
    held = true = 0
    for case, truth in zip(prepared["partial"], prepared["full"], strict=True):
        node, certain = truth.whole("label") > 0, case.whole(CERTAIN) > 0
        assert not (certain & (case.whole("label") > 0)).any()
        assert certain[case.whole("region") > 0].mean() > 0.5
        held, true = held + np.count_nonzero(node & certain), true + np.count_nonzero(node)
    assert held < 0.02 * true


def test_an_annotation_wins_over_all_rules() -> None:
    node = ball(20.0).astype(np.uint8)
    assert not found(np.full(SHAPE, 60, np.int16), node)[node > 0].any()
    assert not found(np.full(SHAPE, -1000, np.int16), node, np.zeros(SHAPE, np.uint8))[node > 0].any()


def test_a_case_gets_its_certain_background_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_case(tmp_path, "a", 0)
    folder = tmp_path / "a"
    with pytest.raises(ValueError, match="a has no certain background: run training.prepare again"):
        refuse_missing(folder)
    add_certain(folder, CLIP_HU)
    refuse_missing(folder)
    case = PreparedCase(folder)
    arrays = [case.whole(name) for name in ("image", "label", "region")]
    wanted = certain_background(*arrays, case.info.spacing_mm, CLIP_HU)
    np.testing.assert_array_equal(case.whole(CERTAIN), wanted)
    facts = read_certain(folder)
    assert facts == CertainFacts(
        VERSION, CLIP_HU, round(float(wanted.mean()), 4), facts.share_of_region if facts else 0.0
    )
    assert facts.share_of_region == pytest.approx(wanted[arrays[2] > 0].mean(), abs=1e-4)
    calls: list[tuple[float, float]] = []
    monkeypatch.setattr(module, "certain_background", lambda *given: calls.append(given[-1]) or wanted)
    add_certain(folder, CLIP_HU)
    assert calls == []
    add_certain(folder, (-50.0, 170.0))
    assert calls == [(-50.0, 170.0)]
    (folder / "certain.json").write_text(json.dumps(to_plain(facts) | {"version": VERSION - 1}))
    with pytest.raises(ValueError, match="background of .*a was found by other rules: run training.prepare again$"):
        refuse_missing(folder)
    (folder / "certain.json").write_text(json.dumps({"version": 0}))
    with pytest.raises(ValueError, match="a has no certain background: run training.prepare again$"):
        refuse_missing(folder)


def test_of_a_full_case_nothing_is_unknown(tmp_path: Path) -> None:
    fake_case(tmp_path, "a", 0, full=True)
    add_certain(tmp_path / "a", CLIP_HU)
    case = PreparedCase(tmp_path / "a")
    np.testing.assert_array_equal(case.whole(CERTAIN), case.whole("label") == 0)
    facts = read_certain(tmp_path / "a")
    assert facts is not None and facts.share_of_region < 1.0


def test_beyond_a_case_there_is_certain_background(tmp_path: Path) -> None:
    fake_case(tmp_path, "a", 0)
    add_certain(tmp_path / "a", CLIP_HU)
    case = PreparedCase(tmp_path / "a", cache=True, arrays=("image", "label", CERTAIN))
    assert case.box(CERTAIN, (-30, 0, 0), (4, 4, 4)).all()
    assert case.box(CERTAIN, (-2, 0, 0), (4, 4, 4))[:2].all()
    assert not case.box("label", (-2, 0, 0), (4, 4, 4)).any()
