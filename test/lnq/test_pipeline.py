from dataclasses import replace

import numpy as np
import pytest

from lnq.image.volume import Volume, make_affine
from lnq.inference.backends import Model, Network
from lnq.inference.spec import CropSpec, ModelSpec, NetworkSpec, Normalisation, PostProcessing
from lnq.nodes.measure import axes_mm
from lnq.pipeline import infer, prepare, segment

NODES_MM = [(0, 20, 60), (-15, -20, 90), (20, 0, -20)]  # L, P, S
RADIUS_MM = 14
NODE_HU = 400  # brighter than anything else in the drawn chest
RULES = PostProcessing(border_mm=(3.0, 3.0, 3.0), hu_range=(200.0, 600.0), min_volume_mm3=500.0)


def bright_is_node(patches: np.ndarray) -> np.ndarray:
    """A network that marks what is brighter than 280 HU."""
    evidence = (patches - 2.8) * 10
    return np.concatenate([np.zeros_like(evidence), evidence], axis=1)


@pytest.fixture
def model(tmp_path) -> Model:
    spec = ModelSpec(
        network=NetworkSpec((4, 8), ((1, 3, 3), (3, 3, 3)), ((1, 2, 2),), (0.0, 0.0)),
        patch=(16, 24, 24),
        spacing_mm=(4.0, 4.0, 4.0),
        normalisation=Normalisation("ct", clip_hu=(-200.0, 500.0), mean=0.0, std=100.0),
        postprocess=RULES,
    )
    return Model(spec, (Network(bright_is_node),), "test", "cpu", tmp_path)


def distance_mm(volume: Volume, centre_mm: tuple[float, float, float]) -> np.ndarray:
    index = np.indices(volume.shape).reshape(3, -1)
    position = volume.affine[:3, :3] @ index + volume.affine[:3, 3:]
    return np.linalg.norm(position.T - centre_mm, axis=1).reshape(volume.shape)


def with_nodes(volume: Volume) -> Volume:
    array = volume.array.copy()
    for centre in NODES_MM:
        array[distance_mm(volume, centre) <= RADIUS_MM] = NODE_HU
    return volume.with_array(array)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


@pytest.fixture
def chest(thorax) -> Volume:
    return with_nodes(thorax)


def test_nodes_are_found_where_they_are(chest, model):
    result = segment(chest, model)
    truth = chest.array == NODE_HU
    assert result.mask.array.dtype == np.uint8
    assert dice(result.mask.array > 0, truth) > 0.8
    assert result.mask.affine is chest.affine
    probability = result.probability.array
    assert probability.shape == chest.shape
    assert (probability[truth] > 0.5).mean() > 0.7
    assert probability[~truth].mean() < 0.01
    assert result.warnings == ()
    assert set(result.seconds) == {"prepare", "network", "postprocess"}


@pytest.mark.parametrize("threshold", [0.01, 0.3, 0.9, 1.1])
def test_what_reaches_a_threshold_is_what_the_whole_probability_shows(chest, model, threshold):
    inferred = infer(chest, model)
    reached = inferred.reaching(threshold)
    np.testing.assert_array_equal(reached.probability, inferred.probability[reached.box])
    np.testing.assert_array_equal(reached.hu.array, inferred.hu.array[reached.box])
    whole = np.zeros(inferred.probability.shape, bool)
    whole[reached.box] = reached.marked
    np.testing.assert_array_equal(whole, inferred.probability >= threshold)
    assert whole.any() == (threshold < 1)


def test_nodes_are_measured_where_they_are_in_any_orientation(chest, model):
    turned = chest.array[::-1].transpose(2, 0, 1)[:, :, ::-1]
    affine = chest.affine.copy()
    affine[:3, 3] += affine[:3, 0] * (chest.shape[0] - 1) + affine[:3, 1] * (chest.shape[1] - 1)
    affine[:3, :2] *= -1
    drawn_axis, _ = axes_mm(distance_mm(chest, NODES_MM[0]) <= RADIUS_MM, chest.spacing_mm)
    for volume in (chest, Volume(turned, affine[:, [2, 0, 1, 3]])):
        found = segment(volume, model)
        nodes, numbered = found.nodes, found.labels
        np.testing.assert_array_equal(numbered.array > 0, found.mask.array > 0)
        assert [n.number for n in nodes] == [1, 2, 3]
        wanted = sorted(NODES_MM, key=lambda centre: -centre[2])  # from the head downwards
        for node, centre in zip(nodes, wanted, strict=True):
            assert node.centroid_lps_mm == pytest.approx(centre, abs=3)
            own = np.argwhere(numbered.array == node.number).mean(axis=0)
            assert (numbered.affine @ [*own, 1.0])[:3] == pytest.approx(node.centroid_lps_mm)
            assert node.short_axis_mm == pytest.approx(drawn_axis, abs=5)  # a voxel
            assert node.mean_hu == pytest.approx(NODE_HU, rel=0.2)
            assert node.mean_probability > 0.5
        assert [n.side for n in nodes] == ["right", "middle", "left"]
        assert {n.above_carina_mm for n in nodes} == {None}  # the drawn chest has no airway


@pytest.mark.parametrize("mirror", [1, 2, 4, 8])
def test_mirroring_changes_nothing_for_a_network_without_sides(chest, model, mirror):
    mirrored = replace(model, spec=replace(model.spec, mirror=mirror))
    np.testing.assert_array_equal(segment(chest, mirrored).mask.array, segment(chest, model).mask.array)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (0, 2, 1)])
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (-1, -1, 1), (1, 1, -1)])
def test_reoriented_copies_give_the_same_mask(chest, model, axes, flips):
    turn = tuple(slice(None, None, f) for f in flips)
    affine = chest.affine.copy()
    for axis, flip in enumerate(flips):
        if flip < 0:
            affine[:3, 3] += affine[:3, axis] * (chest.shape[axis] - 1)
            affine[:3, axis] *= -1
    turned = Volume(chest.array[turn].transpose(axes), affine[:, [*axes, 3]])
    mask = segment(turned, model).mask
    np.testing.assert_array_equal(mask.array, segment(chest, model).mask.array[turn].transpose(axes))
    np.testing.assert_array_equal(mask.affine, turned.affine)


def test_rotated_direction_cosines_do_not_matter(chest, model):
    c, s = np.cos(0.3), np.sin(0.3)
    rotation = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    rotated = Volume(chest.array, rotation @ chest.affine)
    mask = segment(rotated, model).mask
    assert dice(mask.array > 0, segment(chest, model).mask.array > 0) > 0.99
    np.testing.assert_array_equal(mask.affine, rotated.affine)


@pytest.mark.parametrize("spacing_mm", [(10.0, 2.5, 2.5), (2.5, 5.0, 5.0)])
def test_nodes_are_found_at_any_spacing(chest, model, spacing_mm):
    factor = np.array(chest.spacing_mm) / spacing_mm
    shape = np.round(np.array(chest.shape) * factor).astype(int)
    old = [np.clip(np.floor((np.arange(n) + 0.5) / f), 0, None).astype(int) for n, f in zip(shape, factor, strict=True)]
    affine = chest.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ ((1 / factor - 1) / 2)
    affine[:3, :3] /= factor
    other = Volume(chest.array[np.ix_(*old)], affine)
    assert dice(segment(other, model).mask.array > 0, other.array == NODE_HU) > 0.7


def test_the_region_keeps_the_lungs_out(chest, model):
    tumour = distance_mm(chest, (80, 0, 30)) <= RADIUS_MM
    chest.array[tumour] = NODE_HU
    assert not segment(chest, model).mask.array[tumour].any()
    everywhere = replace(model, spec=replace(model.spec, crop=CropSpec(use_region=False)))
    assert segment(chest, everywhere).mask.array[tumour].mean() > 0.3


def test_the_threshold_is_the_model_s(chest, model):
    strict = replace(model, spec=replace(model.spec, threshold=0.9999))
    assert 0 < segment(chest, strict).mask.array.sum() < segment(chest, model).mask.array.sum()


def test_what_is_too_small_is_dropped(chest, model):
    rules = replace(RULES, min_volume_mm3=20_000.0)
    assert not segment(chest, replace(model, spec=replace(model.spec, postprocess=rules))).mask.array.any()


def test_without_lungs_the_warning_is_passed_on(make_thorax, model):
    result = segment(make_thorax(lungs=0), model)
    assert result.ready.crop.lungs_found == 0
    assert result.warnings[0].startswith("No lungs were found")
    assert result.mask.shape == (48, 56, 64)


def test_a_single_slice_and_a_tiny_volume_are_segmented(thorax, model):
    assert segment(thorax.crop((slice(20, 21), slice(None), slice(None))), model).mask.shape == (1, 56, 64)
    tiny = Volume(np.full((2, 2, 2), 50, np.int16), make_affine((1, 1, 1)))
    assert segment(tiny, model).mask.array.tolist() == np.zeros((2, 2, 2)).tolist()


def test_preparing_gives_the_network_s_view(thorax):
    thorax.array[:, :3, :3] = -3000
    ready = prepare(thorax, (4.0, 3.0, 3.0), CropSpec())
    assert ready.image.array.dtype == np.float32
    assert ready.image.array.min() >= -1024
    assert ready.cropped.array.min() >= -1024
    assert ready.image.spacing_mm == pytest.approx((4, 3, 3))
    assert ready.region.shape == ready.image.shape
    assert ready.region.dtype == bool
    assert ready.region.mean() == pytest.approx(ready.crop.region.mean(), abs=0.02)
    wider = prepare(thorax, (4.0, 3.0, 3.0), CropSpec(margin_mm=20.0, region_margin_mm=25.0))
    assert all(w >= n for w, n in zip(wider.cropped.shape, ready.cropped.shape, strict=True))
    assert wider.region.sum() > ready.region.sum()


def test_a_real_bundle_runs_through(thorax, tiny_bundle):
    from lnq.inference.backends import load_model

    result = segment(thorax, load_model(tiny_bundle, "cpu", threads=1))
    assert result.mask.shape == thorax.shape
    assert set(np.unique(result.mask.array)) <= {0, 1}


def marks_above(level: float) -> Network:
    """A network that marks what is brighter than 100 HU times `level`."""

    def predict(patches: np.ndarray) -> np.ndarray:
        evidence = (patches - level) * 100
        return np.concatenate([np.zeros_like(evidence), evidence], axis=1)

    return Network(predict)


@pytest.fixture
def two_networks(model) -> Model:
    """Both mark what is brighter than 420 HU, the first also what is brighter than 280 HU."""
    spec = replace(model.spec, threshold=0.4)
    return replace(model, spec=spec, networks=(marks_above(2.8), marks_above(4.2)))


@pytest.fixture
def bright_and_faint(thorax) -> Volume:
    """Two nodes, of 490 HU above and of 350 HU below."""
    array = thorax.array.copy()
    for centre, hu in zip(NODES_MM[1:], (490, 350), strict=True):
        array[distance_mm(thorax, centre) <= RADIUS_MM] = hu
    return thorax.with_array(array)


def turned(volume: Volume) -> Volume:
    """The same CT with its first axis to the patient's right and its last axis downwards."""
    affine = volume.affine[:, [2, 1, 0, 3]].copy()
    for axis, size in ((0, volume.shape[2]), (2, volume.shape[0])):
        affine[:3, 3] += affine[:3, axis] * (size - 1)
        affine[:3, axis] *= -1
    return Volume(np.ascontiguousarray(volume.array.transpose(2, 1, 0)[::-1, :, ::-1]), affine)


@pytest.mark.parametrize("turn", [lambda volume: volume, turned], ids=["axial", "turned"])
def test_agreement_is_the_share_of_networks_that_mark_a_node(bright_and_faint, two_networks, turn):
    result = segment(turn(bright_and_faint), two_networks)
    assert [(node.agreement, node.side) for node in result.nodes] == [(1.0, "right"), (0.5, "left")]
    for node, centre in zip(result.nodes, NODES_MM[1:], strict=True):
        np.testing.assert_allclose(node.centroid_lps_mm, centre, atol=3)
    assert result.inferred.output.max() <= 1 and len(result.inferred.members) == 2


def test_agreement_is_that_of_the_networks_on_the_cts_own_grid(bright_and_faint, two_networks):
    result = segment(bright_and_faint, two_networks)
    alone = [infer(bright_and_faint, replace(two_networks, networks=(one,))) for one in two_networks.networks]
    both = [result.ready.paste(one.probability).array >= 0.4 for one in alone]
    for node in result.nodes:
        own = result.labels.array == node.number
        assert node.agreement == np.mean([marked[own].mean() >= 0.5 for marked in both])
    mean = np.mean([one.output for one in alone], axis=0)
    np.testing.assert_allclose(result.inferred.output, mean, atol=1e-6)


def test_one_network_has_no_agreement(chest, model):
    result = segment(chest, model)
    assert result.inferred.members == () and {node.agreement for node in result.nodes} == {None}


def test_an_ensemble_that_finds_nothing_says_so(thorax, two_networks):
    assert segment(thorax, two_networks).nodes == []
