"""Where a network was wrong: by hand on drawn marks, and on prepared cases with a network of constant output."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.bundles import constant, write_bundle
from helpers.prepared_cases import SPACING_MM

from lnq.inference.backends import Model, load_model
from lnq.inference.calibration import Calibration
from training.data import mining as module
from training.data.certain import add_certain
from training.data.mining import WrongFacts, find_wrong, read_facts, wrong_places
from training.data.prepared import PreparedCase, case_folders

SHAPE = (8, 20, 40)


def drawn(*boxes: tuple[slice, slice, slice]) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    for box in boxes:
        mask[box] = 1
    return mask


A, B, NODE = np.s_[2:5, 3:6, 2:5], np.s_[2:5, 3:6, 12:15], np.s_[2:5, 12:15, 20:25]


def places(
    marked: np.ndarray, node: np.ndarray, certain: np.ndarray | None = None, peak: float = 0.0
) -> list[list[list[int]]]:
    """What `wrong_places` finds where `marked` has probability 0.7: wrong marks, then missed nodes."""
    certain = np.ones(SHAPE, np.uint8) if certain is None else certain
    return [found.tolist() for found in wrong_places(0.7 * marked.astype(np.float32), node, certain, 0.5, peak)]


def test_a_mark_on_background_is_wrong_and_a_node_without_a_mark_is_missed() -> None:
    assert places(drawn(A, B), drawn(NODE)) == [[[3, 4, 3], [3, 4, 13]], [[3, 13, 22]]]
    assert places(drawn(), drawn()) == [[], []]


def test_a_mark_on_a_node_or_beside_it_is_not_wrong() -> None:
    assert places(drawn(np.s_[2:5, 10:13, 20:30]), drawn(NODE)) == [[], []]
    assert places(drawn(np.s_[2:5, 15:18, 20:25]), drawn(NODE)) == [[], [[3, 13, 22]]]  # the node itself has no mark
    assert places(drawn(np.s_[2:5, 16:18, 20:22]), drawn(NODE))[0] == [[3, 16, 20]]  # a voxel between them


@pytest.mark.parametrize(("unknown", "wrong"), [(4, True), (5, False)])
def test_a_mark_is_wrong_only_where_most_of_it_is_certain_background(unknown: int, wrong: bool) -> None:
    certain = np.ones(SHAPE, np.uint8)
    certain[3, 4, 10 : 10 + unknown] = 0
    assert places(drawn(np.s_[3:4, 4:5, 10:18]), drawn(), certain)[0] == ([[3, 4, 13]] if wrong else [])


def test_a_mark_that_stays_below_the_peak_is_none() -> None:
    assert places(drawn(A, NODE), drawn(NODE), peak=0.8) == [[], [[3, 13, 22]]]
    assert places(drawn(A, NODE), drawn(NODE), peak=0.7) == [[[3, 4, 3]], []]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A network that gives every voxel probability 0.6, and a specification that fits `prepared`."""
    found = load_model(write_bundle(tmp_path_factory.mktemp("model"), [constant(0.6)]), "cpu")
    return dataclasses.replace(found, spec=dataclasses.replace(found.spec, spacing_mm=SPACING_MM))


@pytest.fixture
def folders(prepared: Path) -> list[Path]:
    for folder in case_folders(prepared):
        add_certain(folder, (-140.0, 120.0))
    return case_folders(prepared)


def test_places_are_written_beside_the_case(folders: list[Path], model: Model) -> None:
    """The whole region is one mark, which overlaps the node of a partial and all nodes of a full case."""
    spec = dataclasses.replace(model.spec, threshold=0.5)
    for folder in folders:
        facts = find_wrong(folder, dataclasses.replace(model, spec=spec))
        assert (facts.marks, facts.missed) == (0, 0) == np.shape(PreparedCase(folder).wrong)[:1] * 2
    spec = dataclasses.replace(spec, threshold=0.65)
    facts = find_wrong(folders[2], dataclasses.replace(model, spec=spec))
    assert facts == WrongFacts(facts.made_from, marks=0, missed=3) and len(facts.made_from) == 64
    wrong = PreparedCase(folders[2]).wrong
    assert wrong is not None and wrong.tolist() == [[3, 6, 5], [6, 12, 10], [9, 18, 14]]


def test_the_thresholds_are_of_the_calibrated_probability(folders: list[Path], model: Model) -> None:
    """A calibration of slope 1 and offset 1 lifts 0.6 to 0.80."""
    spec = dataclasses.replace(model.spec, threshold=0.75, calibration=Calibration(1.0, 1.0))
    assert find_wrong(folders[2], dataclasses.replace(model, spec=spec)).missed == 0


def test_a_case_is_looked_at_once(folders: list[Path], model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    first = find_wrong(folders[0], model)
    monkeypatch.setattr(module, "wrong_places", lambda *_: pytest.fail("looked again"))
    assert find_wrong(folders[0], model) == first == read_facts(folders[0])
    monkeypatch.undo()
    other = dataclasses.replace(model, spec=dataclasses.replace(model.spec, threshold=0.61))
    assert find_wrong(folders[0], other).missed == 1
    find_wrong(folders[0], model)
    (folders[0] / "wrong.npy").unlink()
    assert find_wrong(folders[0], model) == first and (folders[0] / "wrong.npy").is_file()
    (folders[0] / "wrong.json").write_text("{")
    assert read_facts(folders[0]) is None and find_wrong(folders[0], model) == first


def test_a_case_of_another_grid_or_without_certain_background_is_refused(
    folders: list[Path], model: Model, prepared: Path
) -> None:
    other = dataclasses.replace(model, spec=dataclasses.replace(model.spec, spacing_mm=(4.0, 3.0, 2.0)))
    with pytest.raises(ValueError, match="^Case case-00 was prepared for another spacing or crop than the model's$"):
        find_wrong(folders[0], other)
    (folders[1] / "certain.json").unlink()
    with pytest.raises(ValueError, match="case-01 has no certain background: run training.prepare again$"):
        find_wrong(folders[1], model)
    assert not (folders[0] / "wrong.npy").exists()
    assert json.loads((folders[0] / "case.json").read_text())["case"] == "case-00"
