from pathlib import Path

import pytest

from lnq.cases import Case, StartError, attempt, find_cases, hashed_name, prepare_output, stem
from lnq.volume import ImageError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.nii.gz", "a"), ("a.b.mha", "a.b"), ("A.NRRD", "A"), ("scan.tif", "scan"), (".mha", ".mha")],
)
def test_stem_is_the_name_without_an_images_extension(name, expected):
    assert stem(Path("some") / name) == expected


def test_stem_of_a_folder_is_its_name(tmp_path):
    (tmp_path / "series.1.2").mkdir()
    assert stem(tmp_path / "series.1.2") == "series.1.2"


def test_files_and_dicom_folders_are_found_below_a_folder(tmp_path, write_dicom, thorax):
    touch(tmp_path / "a.mha", tmp_path / "deep" / "er" / "b.nii.gz", tmp_path / ".hidden.mha", tmp_path / "notes.txt")
    touch(tmp_path / "c.mhd", tmp_path / "c.zraw")
    series = write_dicom(thorax.crop((slice(0, 2),) * 3), tmp_path / "study" / "series")
    names = {c.name: c.path for c in find_cases([tmp_path])}
    assert set(names) == {"a", "b", "c", "series"}
    assert names["series"] == series


def test_label_files_of_the_challenge_are_no_cases(tmp_path):
    touch(*(tmp_path / f"lnq2023-train-0001-{kind}.nrrd" for kind in ("ct", "seg", "nodes")), tmp_path / "x-seg.nrrd")
    assert [c.name for c in find_cases([tmp_path])] == ["lnq2023-train-0001-ct", "x-seg"]


def test_equal_names_get_the_hash_of_their_paths(tmp_path):
    paths = [tmp_path / "one" / "ct.mha", tmp_path / "two" / "CT.nrrd", tmp_path / "other.mha"]
    touch(*paths)
    names = [c.name for c in find_cases(paths)]
    assert names == [hashed_name(paths[0]), hashed_name(paths[1]), "other"]
    assert names[0].startswith("ct-")
    assert len(names[0]) == len("ct-") + 8


def test_input_given_twice_is_one_case(tmp_path):
    touch(tmp_path / "ct.mha")
    assert find_cases([tmp_path, tmp_path / "ct.mha"]) == [Case("ct", (tmp_path / "ct.mha").resolve())]


def test_results_of_an_earlier_run_are_no_cases(tmp_path):
    touch(tmp_path / "ct.mha", tmp_path / "out" / "ct" / "segmentation.mha")
    assert [c.name for c in find_cases([tmp_path], leave_out=tmp_path / "out")] == ["ct"]


def test_nothing_to_do_cannot_start(tmp_path):
    with pytest.raises(StartError, match="No CT found in .*: give .nii.gz, .nii, .mha"):
        find_cases([tmp_path])
    with pytest.raises(StartError, match="nowhere does not exist: check the path"):
        find_cases([tmp_path / "nowhere"])


def test_output_folder_is_made_and_left_clean(tmp_path):
    prepare_output(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ImageError("ct.mha cannot be used: reason"), "ct.mha cannot be used: reason"),
        (MemoryError(), "ct.mha could not be segmented: there is not enough memory for it"),
        (
            OSError(28, "No space left on device", "/out/x.mha"),
            "ct.mha could not be segmented: No space left on device: /out/x.mha",
        ),
        (
            PermissionError("/out cannot be written to"),
            "ct.mha could not be segmented: /out cannot be written to",
        ),
        (KeyError("a\nb"), "ct.mha could not be segmented: KeyError: 'a\\nb'"),
    ],
)
def test_failure_becomes_one_sentence(error, sentence):
    def work() -> None:
        raise error

    assert attempt(Path("/in/ct.mha"), work) == sentence


def test_success_is_no_sentence():
    assert attempt(Path("ct.mha"), lambda: None) is None


def test_a_link_that_leads_back_is_followed_once(tmp_path):
    touch(tmp_path / "study" / "a.mha")
    (tmp_path / "study" / "back").symlink_to(tmp_path, target_is_directory=True)
    assert [c.name for c in find_cases([tmp_path])] == ["a"]


def test_a_folder_that_cannot_be_read_is_named_and_left_out(tmp_path, monkeypatch, caplog):
    touch(tmp_path / "a.mha", tmp_path / "locked" / "b.mha")
    listed = Path.iterdir

    def iterdir(folder: Path):
        if folder.name == "locked":
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert [c.name for c in find_cases([tmp_path])] == ["a"]
    assert caplog.messages == [f"{tmp_path / 'locked'} is left out: Permission denied"]
