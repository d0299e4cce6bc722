"""Scores of raw cases before and after, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.raw_pairs import node_label, write_pair

from lnq.image.volume import Volume
from lnq.inference.backends import Model, load_model
from training.data.sources.find import find_cases
from training.scoring import before_after as module
from training.scoring.before_after import HeldOutScore, read_instances_of, score_once, score_raw, table


@pytest.fixture
def cases(thorax: Volume, tmp_path: Path):
    for name in ("lnq2023-train-0001", "lnq2023-val-0001"):
        write_pair(tmp_path / "raw", name, thorax)
    return find_cases([tmp_path / "raw"])


@pytest.fixture
def model(tiny_bundle: Path) -> Model:
    return load_model(tiny_bundle, "cpu")


def test_a_case_annotated_in_part_has_no_dice(cases, model: Model, thorax: Volume, monkeypatch) -> None:
    node = node_label(thorax)
    marked = node.copy()
    marked[:3, :3, :3] = 1  # far from the node
    monkeypatch.setattr(module, "mask_of", lambda *_: thorax.with_array(marked))
    partial, full = (score_raw(case, model) for case in cases)
    assert (partial.nodes, partial.found, partial.others, partial.full) == (1, 1, 1, False)
    assert partial.dice is None
    size = int(node.sum())
    assert full.dice == pytest.approx(2 * size / (2 * size + 27)) and full.others == 1
    monkeypatch.setattr(module, "mask_of", lambda *_: thorax.with_array(np.zeros_like(node)))
    assert score_raw(cases[0], model).found == 0


def test_a_score_is_kept_until_its_case_or_its_model_changes(cases, model: Model, tmp_path: Path, monkeypatch) -> None:
    first = score_once(cases[1], model, tmp_path)
    monkeypatch.setattr(module, "score_raw", lambda *_: (_ for _ in ()).throw(AssertionError("scored again")))
    assert score_once(cases[1], model, tmp_path) == first
    path = tmp_path / f"{cases[1].name}.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"made_from": {}}))
    with pytest.raises(AssertionError, match="scored again"):
        score_once(cases[1], model, tmp_path)


def test_instances_are_components_of_the_annotation(cases, thorax: Volume) -> None:
    _, instances = read_instances_of(cases[0])
    np.testing.assert_array_equal(instances.array, node_label(thorax))


def test_the_table_compares_what_both_scored() -> None:
    def scored(name: str, full: bool, dice: float | None, found: int, others: int) -> HeldOutScore:
        return HeldOutScore(name, full, dice, 4, found, others)

    before = [scored("a", True, 0.5, 2, 6), scored("b", True, 0.7, 3, 2), scored("c", False, None, 1, 9)]
    after = [scored("a", True, 0.6, 4, 1), scored("c", False, None, 2, 3)]
    assert table(before, after) == [
        ("1 wholly annotated", "before", "50.0", "2 of 4", "6.0"),
        ("1 wholly annotated", "after", "60.0", "4 of 4", "1.0"),
        ("1 annotated in part", "before", "", "1 of 4", "9.0"),
        ("1 annotated in part", "after", "", "2 of 4", "3.0"),
    ]
    assert table([], []) == []
