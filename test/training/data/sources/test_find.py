from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lnq.errors import ImageError
from lnq.image.itk import write_volume
from lnq.image.volume import Volume, make_affine
from training.data.sources.find import check_label, find_cases, read_pair, read_states
from training.data.sources.raw_case import RawCase
from training.data.sources.states import UNKNOWN


def pair(folder: Path, name: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}-ct.nrrd").touch()
    (folder / f"{name}-seg.nrrd").touch()


def write_table(folder: Path, *lines: str, header: str = "image,label,annotation") -> Path:
    for kind in ("images", "labels"):
        (folder / kind).mkdir(exist_ok=True)
        for name in "ab":
            (folder / kind / f"{name}.nii.gz").touch()
    (folder / "cases.csv").write_text("\n".join([header, *lines]) + "\n")
    return folder / "cases.csv"


def test_names_of_the_challenge_tell_annotation_and_part(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        pair(tmp_path, f"lnq2023-{part}-0001")
    assert [(c.name, c.full, c.split) for c in find_cases([tmp_path])] == [
        ("lnq2023-test-0001", True, "test"),
        ("lnq2023-train-0001", False, "train"),
        ("lnq2023-val-0001", True, "validation"),
    ]
    assert [c.full for c in find_cases([tmp_path], "full")] == [True] * 3
    assert [c.full for c in find_cases([tmp_path], "partial")] == [False] * 3


def test_a_name_in_two_folders_gets_the_folders(tmp_path: Path) -> None:
    for folder, name in (("one", "a"), ("two", "a"), ("two", "b")):
        pair(tmp_path / folder, name)
    assert [c.name for c in find_cases([tmp_path / "one", tmp_path / "two"])] == ["one-a", "two-a", "b"]


def test_half_a_pair_is_named(tmp_path: Path) -> None:
    pair(tmp_path, "a")
    pair(tmp_path, "b")
    pair(tmp_path, "._c")  # what some systems leave beside a file
    (tmp_path / "a-ct.nrrd").unlink()
    (tmp_path / "b-seg.nrrd").unlink()
    problems = {c.name: c.problem for c in find_cases([tmp_path])}
    assert problems == {"a": "a-ct.nrrd is missing", "b": "b-seg.nrrd is missing"}


def test_copies_of_one_ct_are_one_patient(tmp_path: Path) -> None:
    """`phantom.insert` notes into which CT it inserted nodes."""
    for name in ("a", "b", "c"):
        pair(tmp_path, name)
    for name in ("a", "b"):
        (tmp_path / f"{name}-info.json").write_text(json.dumps({"background": "scan-7"}))
    assert [c.patient for c in find_cases([tmp_path])] == ["scan-7", "scan-7", "c"]


@pytest.mark.parametrize(
    ("name", "facts", "full"),
    [
        ("lnq2023-train-0001", '{"full": true}', True),
        ("lnq2023-val-0001", '{"full": false}', False),  # nodes inserted into a real CT, whose own are not marked
        ("lnq2023-val-0001", "{}", True),
        ("lnq2023-train-0001", "{}", False),
    ],
)
def test_facts_beside_a_pair_tell_whether_all_nodes_are_marked(
    name: str, facts: str, full: bool, tmp_path: Path
) -> None:
    pair(tmp_path, name)
    (tmp_path / f"{name}-info.json").write_text(facts)
    assert [c.full for c in find_cases([tmp_path])] == [full]


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ('{"full": tr', "a-info.json is damaged: it holds no JSON object"),
        ("[1]", "a-info.json is damaged: it holds no JSON object"),
        ('{"full": "no"}', "a-info.json says neither true nor false for full, but 'no'"),
        ('{"background": null}', "a-info.json names no background, but None"),
        ('{"unknown": true}', "a-info.json says that unknown voxels have the value True"),
        ('{"unknown": 0}', "a-info.json says that unknown voxels have the value 0"),
    ],
)
def test_facts_that_cannot_be_trusted_leave_the_case_out(facts: str, sentence: str, tmp_path: Path) -> None:
    pair(tmp_path, "a")
    (tmp_path / "a-info.json").write_text(facts)
    assert [c.problem for c in find_cases([tmp_path])] == [sentence]


def test_table_says_what_to_read(tmp_path: Path) -> None:
    table = write_table(
        tmp_path,
        "images/a.nii.gz,labels/b.nii.gz,full,,,test",
        "images/b.nii.gz,labels/none.nii.gz,partial,second,Smith,",
        header="image,label,annotation,case,patient,split",
    )
    first, second = find_cases([table])
    assert (first.name, first.patient, first.full, first.split, first.problem) == ("a", "a", True, "test", "")
    assert first.image == tmp_path / "images" / "a.nii.gz" and first.label == tmp_path / "labels" / "b.nii.gz"
    assert (second.name, second.patient, second.full, second.split) == ("second", "Smith", False, "train")
    assert second.problem == "none.nii.gz is missing"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("images/a.nii.gz,labels/a.nii.gz,some", "line 2: annotation must be partial, full or none, not 'some'"),
        ("images/a.nii.gz,,full", "line 2: image or label is not given, or a label where annotation is none"),
        ("a.nii.gz,a.nii.gz,none", "line 2: image or label is not given, or a label where annotation is none"),
        ("images/a.nii.gz,labels/a.nii.gz,full,../a", "line 2: a case becomes a folder's name, which '../a' cannot be"),
        (
            "images/a.nii.gz,labels/a.nii.gz,full,a,dev",
            "line 2: split must be one of train, validation, test, unused, not 'dev'",
        ),
        (
            "images/a.nii.gz,labels/a.nii.gz,partial,a,train,0",
            "line 2: unknown must be a whole number above 0, not '0'",
        ),
        (
            "images/a.nii.gz,labels/a.nii.gz,partial,a,test,,1",
            "line 2: a fold is a whole number from 0 on, of a case for training",
        ),
    ],
)
def test_table_with_an_error_is_refused(tmp_path: Path, line: str, sentence: str) -> None:
    table = write_table(tmp_path, line, header="image,label,annotation,case,split,unknown,fold")
    with pytest.raises(ValueError, match=f"cases.csv, {sentence}$"):
        find_cases([table])


def test_table_names_the_value_of_unknown_voxels(tmp_path: Path) -> None:
    header = "image,label,annotation,unknown"
    three, two, full = find_cases(
        [write_table(tmp_path, "a.mha,l.mha,partial,7", "b.mha,l.mha,partial,", "c.mha,l.mha,full,7", header=header)]
    )
    assert (three.ignore, three.told) == (7, True)
    assert (two.ignore, two.told) == (None, False)
    assert (full.ignore, full.told) == (7, False)


def test_table_names_cts_that_nobody_annotated(tmp_path: Path, thorax: Volume) -> None:
    write_volume(thorax, tmp_path / "a.mha")
    (case,) = find_cases([write_table(tmp_path, "a.mha,,none", header="image,label,annotation")], "full")
    assert case.label is None and not case.full and "label_bytes" not in case.files()
    ct, states = read_states(case)
    np.testing.assert_array_equal(ct.array, thorax.array)
    assert (states.array == UNKNOWN).all()
    with pytest.raises(ValueError, match="^Nobody annotated it, so there is nothing to learn from$"):
        check_label(states, case)


def test_table_without_a_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cases.csv has no column annotation and no column label$"):
        find_cases([write_table(tmp_path, "a.nii.gz", header="image")])


def test_source_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none is neither a folder nor a .csv file$"):
        find_cases([tmp_path / "none"])
    with pytest.raises(ValueError, match=r"^No file named \*-ct.nrrd in .*, and no DICOM SEG object below it$"):
        find_cases([tmp_path])


def test_table_reads_any_format(thorax: Volume, tmp_path: Path, write_dicom: Callable[..., Path]) -> None:
    mask = (thorax.array > 100).astype(np.uint8)
    write_dicom(thorax, tmp_path / "a")
    write_volume(thorax, tmp_path / "b.mha")
    write_volume(thorax.with_array(mask), tmp_path / "label.nii.gz")
    (tmp_path / "cases.csv").write_text("image,label,annotation\na,label.nii.gz,partial\nb.mha,label.nii.gz,full\n")
    for case in find_cases([tmp_path / "cases.csv"]):
        image, label = read_pair(case)
        np.testing.assert_array_equal(image.array, thorax.array)
        np.testing.assert_allclose(image.affine, thorax.affine, atol=1e-6)
        np.testing.assert_array_equal(label.array, mask)


def test_image_that_is_no_ct_is_refused(thorax: Volume, tmp_path: Path) -> None:
    mask = (thorax.array > 100).astype(np.uint8)
    write_volume(thorax.with_array(mask), tmp_path / "a-ct.nrrd")
    write_volume(thorax.with_array(mask), tmp_path / "a-seg.nrrd")
    (case,) = find_cases([tmp_path])
    with pytest.raises(ImageError, match=r"^a-ct.nrrd cannot be used: its voxels have 8 bits"):
        read_pair(case)


@pytest.mark.parametrize(
    ("values", "note"),
    [
        ([0, 1], ""),
        ([0, 255], "seg has value 255: every value above 0 was taken for node"),
        ([0, 1, 2, 9], "seg has 3 instances, of values 1, 2, 9: every value above 0 was taken for node"),
        (range(8), "seg has 7 instances, of values 1, 2, 3, 4, 5, ...: every value above 0 was taken for node"),
    ],
)
def test_unusual_labels_are_named(values: list[int], note: str) -> None:
    array = np.array([[list(values)]], np.int16)
    assert check_label(Volume(array, make_affine((1, 1, 1))), raw_case()) == note


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([0, 0], "seg marks no voxel"),
        ([-1000, 40], "seg is no label: its values go from -1000 to 40"),
        ([0, 0.5], "seg is no label: its values go from 0 to 0.5"),
        ([0, np.nan], "seg is no label: its values go from 0 to nan"),
    ],
)
def test_what_is_no_label_is_refused(values: list[float], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        check_label(Volume(np.array([[values]]), make_affine((1, 1, 1))), raw_case())


def raw_case(ignore: int | None = None) -> RawCase:
    return RawCase("a", Path("ct"), Path("seg"), False, "a", "train", ignore=ignore)


def test_a_label_may_mark_no_node_where_it_tells_what_is_background() -> None:
    label = Volume(np.array([[[0, 0, 2]]]), make_affine((1, 1, 1)))
    assert check_label(label, raw_case(ignore=2)) == ""
    with pytest.raises(ValueError, match="^seg marks no voxel$"):
        check_label(label, dataclasses.replace(raw_case(ignore=2), full=True))


def test_a_folder_given_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a-ct.nrrd").touch()
    with pytest.raises(ValueError, match="Two cases of one name"):
        find_cases([tmp_path, tmp_path])
