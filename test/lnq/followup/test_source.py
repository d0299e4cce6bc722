"""What a user may name as a CT of a comparison, and what is refused."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from helpers.followups import chest
from helpers.rows import FOLLOW_UP

from lnq.batch.record import MANIFEST, read_record
from lnq.batch.settings import WorkerSettings
from lnq.errors import ImageError, StartError
from lnq.followup.comparison import write_json
from lnq.followup.source import sources_of
from lnq.image.itk import write_volume


def settings(bundle: Path = Path("/no/model")) -> WorkerSettings:
    return WorkerSettings("", str(bundle), precision="f32")


def test_results_are_taken_as_they_are(image_results, tmp_path):
    first, second = sources_of(*image_results, tmp_path / "out", settings())
    assert (first.folder, second.folder) == image_results and first.comparison is None
    assert not (tmp_path / "out").exists()


def test_a_run_of_one_case_is_that_case(image_results, tmp_path):
    first, second = image_results
    record = read_record(first.parent, "first")
    assert record is not None
    (first.parent / MANIFEST).write_text(record.line())
    source, _ = sources_of(first.parent, second, tmp_path / "out", settings())
    assert source.folder == first
    (first.parent / MANIFEST).write_text(record.line() + dataclasses.replace(record, case="second").line())
    sentence = f"{first.parent} holds the results of 2 cases: give the folder of one of them"
    with pytest.raises(StartError, match=f"^{sentence}$"):
        sources_of(first.parent, second, tmp_path / "out", settings())


def test_a_comparison_is_its_later_ct(image_results, tmp_path):
    first, second = image_results
    before = tmp_path / "before"
    shutil.copytree(first, before / "cases" / "first")
    later = dataclasses.replace(FOLLOW_UP.later, folder="cases/first")
    write_json(before, dataclasses.replace(FOLLOW_UP, later=later), "1.0")
    for path in (before, before / "comparison.json"):
        source, _ = sources_of(path, second, tmp_path / "out", settings())
        assert source.folder == before / "cases" / "first"
        assert source.comparison is not None and source.comparison.later == later
    shutil.rmtree(before / "cases")
    sentence = f"{before} compares a CT whose result is no longer at {before / 'cases' / 'first'}"
    with pytest.raises(StartError, match=f"^{sentence}$"):
        sources_of(before, second, tmp_path / "out", settings())


def test_what_is_no_ct_is_refused(image_results, tmp_path):
    _, second = image_results
    with pytest.raises(StartError, match=f"^{tmp_path / 'none'} does not exist: check the path$"):
        sources_of(tmp_path / "none", second, tmp_path / "out", settings())
    (tmp_path / "text.nrrd").write_text("NRRD?")
    (tmp_path / "both").mkdir()
    for name in ("a", "b"):
        write_volume(chest()[0], tmp_path / "both" / f"{name}.nrrd")
    with pytest.raises(StartError, match=f"^{tmp_path / 'both'} holds 2 CTs: give the path of one of them$"):
        sources_of(tmp_path / "both", second, tmp_path / "out", settings())


def test_a_renamed_result_is_no_ct(image_results, tmp_path):
    first, second = image_results
    renamed = first.rename(first.with_name("renamed"))
    sentence = f"{renamed} is a result whose case.json is damaged, or whose folder was renamed"
    with pytest.raises(StartError, match=f"^{sentence}$"):
        sources_of(renamed, second, tmp_path / "out", settings())


def test_one_path_is_no_pair(tmp_path):
    with pytest.raises(StartError, match="^EARLIER and LATER are the same path$"):
        sources_of(tmp_path, tmp_path / ".." / tmp_path.name, tmp_path / "out", settings())


def test_cts_are_segmented_once(image_results, tmp_path, tiny_bundle):
    _, second = image_results
    ct = tmp_path / "first.nrrd"
    (found, _) = sources_of(ct, second, tmp_path / "out", settings(tiny_bundle))
    assert found.folder == tmp_path / "out" / "cases" / "earlier"
    record = read_record(found.folder.parent, "earlier")
    assert record is not None and record.input == str(ct) and (found.folder / "segmentation.mha").is_file()
    written = (found.folder / "segmentation.mha").stat().st_mtime_ns
    sources_of(ct, second, tmp_path / "out", settings(tiny_bundle))
    assert (found.folder / "segmentation.mha").stat().st_mtime_ns == written
    other = tmp_path / "second.nrrd"  # another CT in its place does not replace it
    (found, _) = sources_of(other, image_results[0], tmp_path / "out", settings(tiny_bundle))
    assert found.folder.name.startswith("earlier-") and found.folder.parent == tmp_path / "out" / "cases"


def test_a_ct_that_cannot_be_segmented_is_said(image_results, tmp_path, tiny_bundle):
    _, second = image_results
    (tmp_path / "text.nrrd").write_text("no image")
    with pytest.raises(ImageError, match="^text.nrrd cannot be (used|read)"):
        sources_of(tmp_path / "text.nrrd", second, tmp_path / "out", settings(tiny_bundle))
