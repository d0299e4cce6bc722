"""Candidates of a drawn chest, with networks of which it is known what they mark."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from lnq.image.volume import Volume
from lnq.inference.backends import Model, Network
from lnq.inference.spec import CropSpec, ModelSpec, NetworkSpec, Normalisation, PostProcessing
from training.data.sources.states import BACKGROUND, NODE, UNKNOWN
from training.review.candidates import FLIPS, Limits, find_candidates, looks, worth

PLACES_MM = [(0, 20, 60), (-15, -20, 90), (20, 0, -20)]  # L, P, S
RADII_MM = (15.0, 12.0, 10.0)
WIDE = Limits(least_mm=3.0)


def distance_mm(volume: Volume, place: tuple[float, float, float]) -> np.ndarray:
    index = np.indices(volume.shape).reshape(3, -1)
    position = volume.affine[:3, :3] @ index + volume.affine[:3, 3:]
    distance: np.ndarray = np.linalg.norm(position - np.array(place)[:, None], axis=0).reshape(volume.shape)
    return distance


@pytest.fixture
def chest(thorax: Volume) -> Volume:
    """Three balls, of 480, 410 and 340 HU."""
    hu = thorax.array.copy()
    for place, radius, level in zip(PLACES_MM, RADII_MM, (480, 410, 340), strict=True):
        hu[distance_mm(thorax, place) <= radius] = level
    return thorax.with_array(hu)


def model(shift: float = 2.8, one_sided: bool = False) -> Model:
    """A network that marks what is brighter than 100 HU times `shift`; `one_sided`: only left in its window."""
    spec = ModelSpec(
        network=NetworkSpec((4, 8), ((1, 3, 3), (3, 3, 3)), ((1, 2, 2),), (0.0, 0.0)),
        patch=(16, 24, 24),
        spacing_mm=(4.0, 4.0, 4.0),
        normalisation=Normalisation("ct", clip_hu=(-200.0, 500.0), mean=0.0, std=100.0),
        crop=CropSpec(),
        threshold=0.5,
        postprocess=PostProcessing((3.0, 3.0, 3.0), (100.0, 600.0), 100.0),
        provenance={},
        sha256={},
    )

    def predict(patches: np.ndarray) -> np.ndarray:
        evidence = (patches - shift) * 10
        if one_sided:
            evidence[..., : evidence.shape[-1] // 2] -= 50
        return np.concatenate([np.zeros_like(evidence), evidence], axis=1)

    return Model(spec, (Network(predict),), "none", "cpu", Path())


def nothing(volume: Volume) -> Volume:
    return state(volume)


def state(volume: Volume, node: np.ndarray | None = None, background: np.ndarray | None = None) -> Volume:
    """A label of three states, unknown elsewhere."""
    label = np.full(volume.shape, UNKNOWN, np.uint8)
    for where, value in ((node, NODE), (background, BACKGROUND)):
        if where is not None:
            label[where] = value
    return volume.with_array(label)


def test_candidates_are_what_is_marked_and_not_annotated(chest: Volume) -> None:
    found = find_candidates(chest, nothing(chest), [model()], 0.5, WIDE)
    assert len(found.candidates) == 3
    annotated = state(chest, node=distance_mm(chest, PLACES_MM[1]) <= 4)
    found = find_candidates(chest, annotated, [model()], 0.5, WIDE)
    assert sorted(c.node.number for c in found.candidates) == [1, 2]
    places = [c.node.centroid_lps_mm for c in found.candidates]
    for wanted in (PLACES_MM[0], PLACES_MM[2]):
        assert min(math.dist(place, wanted) for place in places) < 3
    for candidate in found.candidates:
        own = found.numbers.array == candidate.node.number
        assert own.sum() * chest.voxel_volume_mm3 == pytest.approx(candidate.node.volume_mm3, rel=1e-6)
        assert found.probability.array[own].max() == pytest.approx(candidate.score)
    assert found.numbers.affine is chest.affine


def test_what_a_source_calls_background_is_no_candidate(chest: Volume) -> None:
    settled = distance_mm(chest, PLACES_MM[0]) <= 30
    found = find_candidates(chest, state(chest, background=settled), [model()], 0.5, WIDE)
    assert len(found.candidates) == 2
    assert not (found.numbers.array[settled]).any()


def test_an_annotation_beside_a_candidate_takes_it_too(chest: Volume) -> None:
    found = find_candidates(chest, nothing(chest), [model()], 0.5, WIDE)
    own = found.numbers.array == next(c.node.number for c in found.candidates if c.node.short_axis_mm > 20)
    z, y, x = (int(v) for v in np.argwhere(own)[0])  # its lowest slice
    beside = np.zeros(chest.shape, bool)
    beside[z - 1, y, x] = True
    again = find_candidates(chest, state(chest, node=beside), [model()], 0.5, WIDE)
    assert len(again.candidates) == 2


def test_it_is_told_how_sure_networks_are_of_each_annotated_node(chest: Volume) -> None:
    members = [model(2.8), model(3.6), model(4.3)]  # of the second ball two are sure, of the third one, of air none
    annotated = [distance_mm(chest, place) <= 6 for place in (*PLACES_MM[1:], (0, 20, 20))]
    found = find_candidates(chest, state(chest, node=np.any(annotated, axis=0)), members, 0.2, WIDE)
    assert sorted(found.annotated) == pytest.approx([0.0, 1 / 3, 2 / 3], abs=0.05)
    assert find_candidates(chest, nothing(chest), members, 0.2, WIDE).annotated == []


def test_what_networks_disagree_on_is_worth_more(chest: Volume) -> None:
    members = [model(2.8), model(3.6), model(4.3)]  # the third ball is marked by one, the second by two
    found = find_candidates(chest, nothing(chest), members, 0.2, WIDE)
    by_size = sorted(found.candidates, key=lambda c: -c.node.short_axis_mm)
    assert len(by_size) == 3 and by_size[0].agreement > by_size[2].agreement == pytest.approx(1 / 3)
    assert [round(3 * c.score) for c in by_size] == [3, 2, 1]
    assert by_size[0].worth < by_size[1].worth and by_size[0].worth < by_size[2].worth
    assert [c.node.number for c in found.candidates] == [1, 2, 3]
    assert [c.worth for c in found.candidates] == sorted((c.worth for c in found.candidates), reverse=True)


SHIFTS = (2.8, 3.6, 4.3)  # networks that together hold 480 HU a node by 1, 410 HU by two thirds and 340 HU by a third


@pytest.mark.parametrize(("levels", "wanted"), [(1, 1), (2, 2), (3, 3), (5, 3)])
def test_each_level_halves_the_threshold(chest: Volume, levels: int, wanted: int) -> None:
    found = find_candidates(chest, nothing(chest), [model(shift) for shift in SHIFTS], 0.9, WIDE, levels)
    assert len(found.candidates) == wanted
    assert set(np.unique(found.numbers.array)) == set(range(wanted + 1))
    for candidate, start in zip(found.candidates, found.starts_mm, strict=True):
        own = found.numbers.array == candidate.node.number
        assert own.sum() * chest.voxel_volume_mm3 == pytest.approx(candidate.node.volume_mm3, rel=1e-6)
        assert candidate.agreement == pytest.approx(round(3 * candidate.score) / 3)
        assert candidate.level == {3: 0.9, 2: 0.45, 1: 0.225}[round(3 * candidate.score)]
        assert found.probability.array[own].min() >= candidate.level
        assert min(math.dist(start, place) for place in PLACES_MM) < 15


@pytest.fixture
def dumbbell(thorax: Volume) -> Volume:
    """Two balls of 480 HU in a cylinder of 340 HU that joins them and lies around both."""
    hu = thorax.array.copy()
    hu[np.min([distance_mm(thorax, (0, 20, z)) for z in range(40, 91, 2)], axis=0) <= 17] = 340
    for z in (40, 90):
        hu[distance_mm(thorax, (0, 20, z)) <= 10] = 480
    return thorax.with_array(hu)


def test_a_lower_level_joins_nothing_that_a_higher_one_tells_apart(dumbbell: Volume) -> None:
    members = [model(shift) for shift in SHIFTS]

    def heights(state: Volume, threshold: float, levels: int) -> list[int]:
        found = find_candidates(dumbbell, state, members, threshold, WIDE, levels)
        return sorted(round(candidate.node.centroid_lps_mm[2] / 10) for candidate in found.candidates)

    assert heights(nothing(dumbbell), 0.225, 1) in ([6], [7])  # one, around the middle
    assert heights(nothing(dumbbell), 0.9, 3) == [4, 9]
    annotated = state(dumbbell, node=distance_mm(dumbbell, (0, 20, 40)) <= 6)
    assert heights(annotated, 0.225, 1) == []
    assert heights(annotated, 0.9, 3) == [9]


def test_the_rim_of_a_rejected_place_does_not_come_back(dumbbell: Volume) -> None:
    members = [model(shift) for shift in SHIFTS]
    settled = np.zeros(dumbbell.shape, bool)
    for z in (40, 90):
        settled |= distance_mm(dumbbell, (0, 20, z)) <= 12
    assert find_candidates(dumbbell, state(dumbbell, background=settled), members, 0.9, WIDE, 3).candidates == []
    one = distance_mm(dumbbell, (0, 20, 40)) <= 12
    found = find_candidates(dumbbell, state(dumbbell, background=one), members, 0.9, WIDE, 3)
    assert [round(c.node.centroid_lps_mm[2] / 10) for c in found.candidates] == [9]


def test_worth_is_a_bit_at_the_networks_own_threshold() -> None:
    assert worth(0.5, 0.5) == worth(0.9, 0.9) == 1.0
    assert (
        worth(0.2, 0.5) == pytest.approx(worth(0.8, 0.5)) == pytest.approx(0.7219, abs=1e-4)
    )  # -0.2 ld 0.2 - 0.8 ld 0.8
    assert worth(0.0, 0.5) < 1e-4 and worth(1.0, 0.5) < 1e-4


def test_limits_choose_by_size_and_count(chest: Volume) -> None:
    def sizes(limits: Limits) -> list[float]:
        found = find_candidates(chest, nothing(chest), [model()], 0.5, limits)
        assert set(np.unique(found.numbers.array)) == set(range(len(found.candidates) + 1))
        return sorted(c.node.short_axis_mm for c in found.candidates)

    every = sizes(WIDE)
    assert sizes(Limits(least_mm=every[1] - 0.1)) == every[1:]
    assert sizes(Limits(least_mm=3.0, most_mm=every[0] + 0.1)) == every[:1]
    assert len(sizes(Limits(least_mm=3.0, count=2))) == 2


@pytest.mark.parametrize("number", range(len(FLIPS)))
def test_a_mirrored_look_sees_the_ct_mirrored(number: int) -> None:
    patch = np.random.default_rng(0).normal(size=(2, 1, 6, 8, 10)).astype(np.float32)
    look = looks(model(one_sided=True), 4)[number]
    axes = FLIPS[number]
    wanted = np.flip(model(one_sided=True).networks[0].predict(np.flip(patch, axes)), axes)
    np.testing.assert_array_equal(look.networks[0].predict(patch), wanted)
    assert look.spec.mirror == 0
    with pytest.raises(ValueError, match="Flips must be 1 to 4, not 5"):
        looks(model(), 5)


def test_networks_must_see_cts_alike(chest: Volume) -> None:
    other = model()
    other = dataclasses.replace(other, spec=dataclasses.replace(other.spec, spacing_mm=(4.0, 3.0, 3.0)))
    with pytest.raises(ValueError, match="their spacing and crop must be the same"):
        find_candidates(chest, nothing(chest), [model(), other], 0.5, WIDE)


def test_each_network_of_a_bundle_is_a_look(chest: Volume) -> None:
    several = [model(2.8), model(3.6), model(4.3)]
    ensemble = dataclasses.replace(several[0], networks=tuple(one.networks[0] for one in several))
    seen = looks(ensemble, 2)
    assert [len(look.networks) for look in seen] == [1] * 6
    found, wanted = (
        find_candidates(chest, nothing(chest), members, 0.2, WIDE)
        for members in (seen, [look for one in several for look in looks(one, 2)])
    )
    assert found.candidates == wanted.candidates and len(found.candidates) == 3
