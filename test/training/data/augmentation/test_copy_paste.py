import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from training.data.augmentation.copy_paste import CopiedNode, find_nodes, paste
from training.data.prepared import CaseInfo, PreparedCase, write_case

FAT, NODE_HU, HEART = -100, 40, 30
SPACING = (4.0, 2.0, 2.0)
WITHOUT_COPY = (11, 14)  # seeds that draw none


def ball(shape, centre, radius):
    """Voxels within a radius, in voxels, of a centre."""
    return sum((grid - c) ** 2 for grid, c in zip(np.indices(shape), centre, strict=True)) <= radius**2


def case_of(folder, annotated, nodes=(), shape=(40, 60, 60)):
    """A prepared case of fat with nodes, some of them annotated, each as (centre, radius)."""
    hu, label = np.full(shape, FAT, np.int16), np.zeros(shape, np.uint8)
    for centre, radius in (*annotated, *nodes):
        hu[ball(shape, centre, radius)] = NODE_HU
    for centre, radius in annotated:
        label |= ball(shape, centre, radius).astype(np.uint8)
    centres = tuple(centre for centre, _ in annotated)
    info = CaseInfo("c", False, shape, SPACING, 0.0, 1.0, centres, (1.0,) * len(centres), 0.0)
    write_case(folder / "c", info, hu, label, np.ones(shape, np.uint8), np.zeros((1, 3)))
    return PreparedCase(folder / "c", cache=True)


def test_annotated_nodes_are_found_with_their_tissue(tmp_path):
    case = case_of(tmp_path, [((10, 20, 20), 4), ((30, 40, 40), 2)], nodes=[((10, 45, 20), 5)])
    large, small = find_nodes([case])
    assert large.node.shape == large.hu.shape == (11, 11, 11)  # with a voxel around it
    assert (large.node == ball((11, 11, 11), (5, 5, 5), 4)).all()
    assert small.node.shape == small.hu.shape == (7, 7, 7)
    assert set(np.unique(large.hu)) == {NODE_HU}  # outside the node too: its edge has no fat of another place


def test_fat_under_an_annotation_is_no_part_of_the_node(tmp_path):
    case = case_of(tmp_path, [((20, 30, 30), 4)])
    image = case.whole("image").copy()
    image[20, 26:29] = FAT
    write_case(tmp_path / "d", case.info, image, case.whole("label"), case.whole("region"), case.points)
    [found] = find_nodes([PreparedCase(tmp_path / "d")])
    assert found.node.sum() == (case.whole("label") * (image == NODE_HU)).sum()


@pytest.mark.parametrize(("radius", "count"), [(1, 0), (2, 1), (19, 1), (20, 0)])
def test_nodes_without_a_shape_and_those_of_8_cm_are_not_copied(tmp_path, radius, count):
    shape = (10, 60, 60)
    case = case_of(tmp_path, [], shape=shape)
    label = np.zeros(shape, np.uint8)
    label[5] = ball((1, 60, 60), (0, 30, 30), radius)[0]
    info = dataclasses.replace(case.info, node_centres=((5, 30, 30),), node_volumes_mm3=(1.0,))
    write_case(tmp_path / "d", info, np.where(label > 0, NODE_HU, FAT), label, np.ones_like(label), case.points)
    assert len(find_nodes([PreparedCase(tmp_path / "d")])) == count


@pytest.fixture
def node():
    """A ball of 5 voxels' radius and 60 HU."""
    inside = ball((13, 13, 13), (6, 6, 6), 5)
    return CopiedNode(np.full(inside.shape, 60, np.float32), inside.astype(np.float32))


@pytest.mark.parametrize("seed", range(20))
def test_copies_are_annotated_and_all_else_stays(node, seed):
    shape = (24, 40, 40)
    hu, region = np.full(shape, FAT, np.int16), np.ones(shape, np.uint8)
    hu[:, 30:] = HEART
    label = np.zeros(shape, np.uint8)
    label[2:5, 2:5, 2:5] = 1
    before = hu.copy(), label.copy()
    new_hu, new_label = paste(hu, label, region, [node], 3, np.random.default_rng(seed))
    assert (hu == before[0]).all()
    assert (label == before[1]).all()
    added = (new_label > 0) & (label == 0)
    assert new_hu.dtype == np.float32
    assert new_label.dtype == np.uint8
    far = ~ndimage.binary_dilation(added, np.ones((7, 7, 7)))
    assert (new_hu[far] == hu[far]).all()
    assert (new_label[label > 0] == 1).all()
    core = ndimage.binary_erosion(added, np.ones((3, 3, 3)))
    assert np.allclose(new_hu[core], 60, atol=4)
    _, count = ndimage.label(added)
    assert count <= 3
    assert added.any() == (seed not in WITHOUT_COPY)


def test_no_copy_lies_mostly_outside_fat_or_has_its_middle_outside_the_region(node):
    shape = (24, 40, 40)
    heart, half = np.full(shape, HEART, np.int16), np.zeros(shape, np.uint8)
    half[:, :20] = 1
    label = np.zeros(shape, np.uint8)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        assert not paste(heart, label, half, [node], 5, rng)[1].any()
        thin = heart.copy()
        thin[:, 20] = FAT  # a sheet of fat between organs holds no copy
        assert not paste(thin, label, np.ones(shape, np.uint8), [node], 5, rng)[1].any()
        _, marked = paste(np.full(shape, FAT, np.int16), label, half, [node], 1, rng)
        if marked.any():
            assert ndimage.center_of_mass(marked)[1] < 22


def test_copies_have_half_to_one_and_a_half_times_the_size(node):
    shape = (40, 40, 40)
    fat, none = np.full(shape, FAT, np.int16), np.zeros(shape, np.uint8)
    region = none.copy()
    region[20, 20, 20] = 1
    sizes = []
    for seed in range(60):
        _, marked = paste(fat, none, region, [node], 1, np.random.default_rng(seed))
        if marked.any():
            sizes.append((marked.sum() / node.node.sum()) ** (1 / 3))
    assert 20 < len(sizes) < 40  # none or one copy, as likely as each other
    assert 0.35 < min(sizes) < 0.7
    assert 1.1 < max(sizes) < 1.5


@pytest.mark.parametrize("size", [(1, 4, 4), (2, 5, 5), (2, 8, 8), (5, 9, 9)])
def test_flat_nodes_keep_their_volume_on_average(size):
    shape = (30, 40, 40)
    flat = np.pad(np.ones(size, np.float32), 1)
    nodes = [CopiedNode(np.full(flat.shape, 60, np.float32), flat)]
    fat, none = np.full(shape, FAT, np.int16), np.zeros(shape, np.uint8)
    region = none.copy()
    region[15, 20, 20] = 1
    volumes = [paste(fat, none, region, nodes, 1, np.random.default_rng(seed))[1].sum() for seed in range(400)]
    made = [volume for volume in volumes if volume]
    assert len(made) > 150  # of about 200
    expected = (1.3**4 - 0.5**4) / (4 * 0.8)  # the mean of the cube of what is uniform in 0.5 to 1.3
    assert np.mean(made) / np.prod(size) == pytest.approx(expected, rel=0.2)


def test_copies_cover_no_annotation_and_no_other_copy(node):
    shape = (24, 40, 40)
    fat, region = np.full(shape, FAT, np.int16), np.ones(shape, np.uint8)
    label = ball(shape, (12, 20, 20), 7).astype(np.uint8)
    hu = np.where(label > 0, 90, fat).astype(np.int16)
    for seed in range(20):
        new_hu, _ = paste(hu, label, region, [node], 8, np.random.default_rng(seed))
        assert (new_hu[ndimage.binary_erosion(label, np.ones((5, 5, 5)))] == 90).all()


def test_without_fat_or_nodes_nothing_is_pasted(node):
    hu, label = np.full((8, 8, 8), HEART, np.int16), np.zeros((8, 8, 8), np.uint8)
    region = np.ones_like(label)
    for nodes in ([], [node]):
        new_hu, new_label = paste(hu, label, region, nodes, 5, np.random.default_rng(0))
        assert (new_hu == hu).all()
        assert not new_label.any()
