"""`lnq compare` as a user runs it: three CTs of one patient, and what goes wrong."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.followups import chest, of_radius, write_result

from lnq.batch.lock import alone
from lnq.cli import main
from lnq.errors import DONE, INTERRUPTED, NOT_STARTED, SOME_FAILED
from lnq.image.itk import write_volume
from lnq.image.volume import Volume
from lnq.signals import signals_go_to

pytest.importorskip("jinja2")


HIDDEN = {".lnq-lock"}


def compare(*words: object) -> int:
    return main(["compare", *map(str, words)])


def said(capsys) -> str:
    return capsys.readouterr().err.splitlines()[-1]


def table(folder: Path) -> dict[str, tuple[str, str, str]]:
    """State, earlier and later numbers, by the node's name."""
    with (folder / "comparison.csv").open() as file:
        return {row["node"]: (row["state"], row["earlier"], row["later"]) for row in csv.DictReader(file)}


def short_axis_mm(folder: Path, number: int) -> float:
    return json.loads((folder / "nodes.json").read_text())[number - 1]["short_axis_mm"]


def test_nodes_are_told_apart(image_results, tmp_path, capsys):
    assert compare(*image_results, "-o", tmp_path / "out") == DONE
    assert said(capsys) == f"All done: 1 new, 2 same, 1 gone; see {tmp_path / 'out' / 'comparison.html'}"
    assert table(tmp_path / "out") == {
        "Lymph node 4": ("new", "", "1"),
        "Lymph node 1": ("same", "1", "2"),
        "Lymph node 2": ("same", "2", "3"),
        "Lymph node 3": ("gone", "3", ""),
    }
    plain = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert plain["earlier"]["folder"] == str(image_results[0])
    first, second = image_results
    assert [one["mm"] for one in plain["sums"]] == pytest.approx(
        [
            short_axis_mm(first, 1) + short_axis_mm(first, 2),
            short_axis_mm(second, 2) + short_axis_mm(second, 3),
        ]
    )
    assert plain["warnings"][:1] == [
        "The carina was not found in the earlier CT: the alignment started from the middle of the mediastinum."
    ]
    assert {path.name for path in (tmp_path / "out").iterdir()} - HIDDEN == {
        "comparison.csv", "comparison.html", "comparison.json",
    }  # fmt: skip


def test_a_third_ct_keeps_tracks_targets_and_the_first_sum(dicom_results, tmp_path, write_dicom, capsys):
    first, second = dicom_results()
    assert compare(first, second, "-o", tmp_path / "one") == DONE
    ct, mask = chest(*of_radius((-18.0, -12.0, 66.0), radius_mm=5.0), *of_radius((-4.0, -26.0, 42.0), radius_mm=4.0))
    tags = {"PatientID": "P1", "StudyDate": "20260701", "StudyInstanceUID": "1.2.9", "FrameOfReferenceUID": "1.2.8"}
    third = write_result(tmp_path / "results", "third", write_dicom(ct, tmp_path / "third", **tags), mask)
    assert compare(tmp_path / "one", third, "-o", tmp_path / "two") == DONE
    assert table(tmp_path / "two") == {
        "Lymph node 1": ("same", "2", "1"),
        "Lymph node 5": ("new", "", "2"),  # where node 3 was, which was gone before
        "Lymph node 4": ("gone", "1", ""),
        "Lymph node 2": ("gone", "3", ""),
    }
    sums = json.loads((tmp_path / "two" / "comparison.json").read_text())["sums"]
    assert [one["title"] for one in sums] == ["2026-01-05", "2026-04-02", "2026-07-01"]
    assert [one["mm"] for one in sums] == pytest.approx(
        [
            short_axis_mm(first, 1) + short_axis_mm(first, 2),
            short_axis_mm(second, 2) + short_axis_mm(second, 3),
            short_axis_mm(third, 1),
        ]
    )
    uids = [{s.TrackingID: s.TrackingUID for s in pydicom.dcmread(path).SegmentSequence} for path in (
        first / "segments.dcm", tmp_path / "one" / "segments.dcm", tmp_path / "two" / "segments.dcm",
    )]  # fmt: skip
    assert uids[0]["Lymph node 1"] == uids[1]["Lymph node 1"] == uids[2]["Lymph node 1"]
    assert uids[0]["Lymph node 2"] == uids[1]["Lymph node 2"] and "Lymph node 3" not in uids[1]
    report = pydicom.dcmread(tmp_path / "two" / "nodes.dcm")
    assert (report.Modality, report.StudyInstanceUID) == ("SR", "1.2.9")


def test_a_report_gives_the_tracks(dicom_results, tmp_path, capsys):
    first, second = dicom_results()
    shutil.move(first / "nodes.dcm", tmp_path / "from-pacs.dcm")
    assert compare(first, second, "-o", tmp_path / "out", "--sr", tmp_path / "from-pacs.dcm") == DONE
    assert compare(tmp_path / "out", second, "-o", tmp_path / "next", "--sr", tmp_path / "from-pacs.dcm") == NOT_STARTED
    assert compare(first, second, "-o", tmp_path / "out", "--sr", first / "segments.dcm") == NOT_STARTED
    assert said(capsys) == f"{first / 'segments.dcm'} is no DICOM structured report"


def test_what_cannot_be_compared_leaves_the_last_comparison(image_results, tmp_path, capsys):
    first, second = image_results
    out = tmp_path / "out"
    assert compare(first, second, "-o", out) == DONE
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert compare(first, first, "-o", out) == NOT_STARTED
    assert said(capsys) == "EARLIER and LATER are the same path"
    (second / "nodes.json").unlink()
    assert compare(first, second, "-o", out) == SOME_FAILED
    assert said(capsys) == "second is damaged, or of another version of lnq: segment it again"
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_case_that_was_segmented_anew_is_compared_anew(image_results, tmp_path, capsys):
    first, second = image_results
    assert compare(first, second, "-o", tmp_path / "one") == DONE
    ct, mask = chest(*of_radius((0.0, -12.0, 66.0)))
    write_volume(ct, tmp_path / "third.nrrd")
    third = write_result(tmp_path / "results", "third", tmp_path / "third.nrrd", mask)
    shutil.rmtree(second)
    write_result(tmp_path / "results", "second", tmp_path / "second.nrrd", mask)
    assert compare(tmp_path / "one", third, "-o", tmp_path / "two") == NOT_STARTED
    assert said(capsys) == "second was segmented anew since it was compared: compare it again"


def test_a_ct_without_lungs_is_said(image_results, tmp_path, capsys):
    first, _ = image_results
    block = Volume(np.full((40, 50, 60), 40, np.int16), chest()[0].affine)
    block.array[:, :10] = -1000
    write_volume(block, tmp_path / "block.nrrd")
    mask = block.with_array(np.zeros(block.shape, np.uint8))
    folder = write_result(tmp_path / "results", "block", tmp_path / "block.nrrd", mask)
    assert compare(first, folder, "-o", tmp_path / "out") == SOME_FAILED
    assert said(capsys) == "block cannot be compared: no lungs were found in it"
    assert not (tmp_path / "out" / "comparison.json").exists()


def test_cts_are_segmented_first(image_results, tmp_path, tiny_bundle, capsys):
    cts = tmp_path / "first.nrrd", tmp_path / "second.nrrd"
    words = (*cts, "-o", tmp_path / "out", "--model", tiny_bundle, "--precision", "f32")
    assert compare(*words) == DONE
    assert (tmp_path / "out" / "cases" / "earlier" / "report.html").is_file()
    plain = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [plain[name]["folder"] for name in ("earlier", "later")] == ["cases/earlier", "cases/later"]
    assert "cases/later/report.html" in (tmp_path / "out" / "comparison.html").read_text()


def test_a_comparison_is_not_written_over_by_the_next_one(image_results, tmp_path, capsys):
    first, second = image_results
    out = tmp_path / "out"
    assert compare(first, second, "-o", out) == DONE
    for earlier in (out, out / "comparison.json"):
        assert compare(earlier, first, "-o", out) == NOT_STARTED
        assert said(capsys) == "EARLIER is the output folder, and would be lost: give another one"
    assert compare(first, second, "-o", second) == NOT_STARTED
    assert said(capsys) == "LATER is the output folder, and would be lost: give another one"
    other = write_result(tmp_path / "others", "first", tmp_path / "first.nrrd", chest()[1])
    assert compare(first, second, "-o", other) == NOT_STARTED
    assert said(capsys) == f"{other} holds results of lnq batch: give another output folder"


def test_a_write_that_fails_leaves_the_last_comparison(dicom_results, tmp_path, capsys, monkeypatch):
    first, second = dicom_results()
    out = tmp_path / "out"
    assert compare(first, second, "-o", out) == DONE
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device", str(out / "comparison.json"))

    monkeypatch.setattr("lnq.followup.command.write_json", fail)
    assert compare(first, second, "-o", out) == SOME_FAILED
    assert said(capsys) == f"The comparison cannot be made: No space left on device: {out / 'comparison.json'}"
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_objects_of_an_earlier_comparison_do_not_stay(dicom_results, image_results_again, tmp_path):
    out = tmp_path / "out"
    assert compare(*dicom_results(), "-o", out) == DONE
    (out / ".replaced-x").mkdir()  # left by a run that was killed
    assert compare(*image_results_again, "-o", out) == DONE
    assert {path.name for path in out.iterdir()} - HIDDEN == {
        "comparison.csv", "comparison.html", "comparison.json",
    }  # fmt: skip


def test_a_node_beyond_the_other_ct_is_not_called_gone(dicom_results, tmp_path, write_dicom, capsys):
    """The third CT begins above two of the nodes of the second, both targets."""
    _, second = dicom_results()
    ct, mask = chest(*of_radius((12.0, -26.0, 84.0), radius_mm=6.0))
    start = round((78.0 - ct.affine[2, 3]) / ct.spacing_mm[0])
    upper = (slice(start, None), slice(None), slice(None))
    tags = {"PatientID": "P1", "StudyDate": "20260701", "StudyInstanceUID": "1.2.9", "FrameOfReferenceUID": "1.2.8"}
    path = write_dicom(ct.crop(upper), tmp_path / "third", **tags)
    third = write_result(tmp_path / "results", "third", path, mask.crop(upper))
    assert compare(second, third, "-o", tmp_path / "out") == DONE
    states = {name: state for name, (state, _, _) in table(tmp_path / "out").items()}
    assert states == {"Lymph node 1": "same", "Lymph node 2": "outside", "Lymph node 3": "outside"}
    plain = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [one["mm"] is None for one in plain["sums"]] == [False, True]


def test_results_can_be_private(image_results, tmp_path):
    assert compare(*image_results, "-o", tmp_path / "out", "--private") == DONE
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()}
    assert set(modes.values()) == {0o600} and (tmp_path / "out").stat().st_mode & 0o777 == 0o700


def test_results_of_other_weights_get_a_warning(image_results, tmp_path):
    first, second = image_results
    record = json.loads((second / "case.json").read_text())
    record["versions"]["weights"] = "3" * 64
    (second / "case.json").write_text(json.dumps(record))
    assert compare(first, second, "-o", tmp_path / "out") == DONE
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert "Other versions, weights or options found the nodes of the two CTs: a change may be theirs." in page
    assert "weights 222222222222" in page and "weights 333333333333" in page


def test_one_run_at_a_time_writes_into_a_folder(image_results, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    with alone(tmp_path / "out", "other"):
        assert compare(*image_results, "-o", tmp_path / "out") == NOT_STARTED
    assert said(capsys) == f"Another run is writing to {tmp_path / 'out'}: wait for it, or choose another folder"
    assert compare(*image_results, "-o", tmp_path / "out") == DONE


def test_a_signal_as_files_are_moved_waits_until_all_are_there(image_results, tmp_path, monkeypatch):
    first, second = image_results
    out = tmp_path / "out"
    assert compare(first, second, "-o", out) == DONE
    before = {path.name: path.stat().st_ino for path in out.iterdir() if path.name not in HIDDEN}
    rename = os.rename

    def then_signal(*paths: object) -> None:
        rename(*paths)
        signal.raise_signal(signal.SIGTERM)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.rename", then_signal)
    with signals_go_to(stop):
        assert compare(first, second, "-o", out) == INTERRUPTED
    after = {path.name: path.stat().st_ino for path in out.iterdir() if path.name not in HIDDEN}
    assert set(after) == set(before) and not set(after.values()) & set(before.values())


def test_a_run_that_was_killed_leaves_nothing_to_go_on_from(image_results, tmp_path, monkeypatch):
    first, second = image_results
    out = tmp_path / "out"
    assert compare(first, second, "-o", out) == DONE

    def kill(*_: object) -> None:
        assert not (out / "comparison.json").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr("lnq.followup.command.replace_files", kill)
    before = (out / "comparison.json").read_bytes()
    assert compare(first, second, "-o", out) == INTERRUPTED
    assert (out / "comparison.json").read_bytes() == before
