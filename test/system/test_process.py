import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.paths import ROOT
from scipy import ndimage

from lnq import cli
from lnq.image.itk import read_volume, write_volume
from lnq.inference.backends import load_model
from lnq.inference.spec import ModelSpec
from lnq.pipeline import segment


@pytest.fixture
def batch(tmp_path, tiny_bundle, capfd):
    """Runs `batch` on tmp_path/in; returns status, standard output and the manifest's entries by case."""

    def batch(*options: str) -> tuple[int, str, dict[str, dict]]:
        places = [f"{tmp_path}/in", "-o", f"{tmp_path}/out", "--model", f"{tiny_bundle}"]
        if "--no-preview" in options:
            places.append("--no-report")
        status = cli.main(["batch", *places, *options])
        lines = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()
        return status, capfd.readouterr().out, {e["case"]: e for e in map(json.loads, lines)}

    (tmp_path / "in").mkdir()
    return batch


def test_batch_leaves_mask_picture_and_manifest(tmp_path, thorax, batch):
    write_volume(thorax, tmp_path / "in" / "ct.mha")
    status, text, entries = batch()
    mask = read_volume(tmp_path / "out" / entries["ct"]["mask"])
    assert status == 0
    assert text.startswith("ct: done in ")
    assert mask.array.dtype == np.uint8
    assert set(np.unique(mask.array)) <= {0, 1}
    np.testing.assert_allclose(mask.affine, thorax.affine, atol=1e-9)
    assert (tmp_path / "out" / "ct" / "preview.png").is_file()
    assert 'href="ct/report.html"' in (tmp_path / "out" / "report.html").read_text()
    assert (tmp_path / "out" / "ct" / "report.html").stat().st_size <= 5_000_000
    entry = entries["ct"]
    assert (entry["status"], entry["error"], entry["mask"]) == ("done", None, "ct/segmentation.mha")
    assert entry["volume_mm3"] == pytest.approx(mask.array.sum() * 125.0)
    assert entry["versions"]["backend"] in ("openvino", "torch")
    nodes = json.loads((tmp_path / "out" / "ct" / "nodes.json").read_text())
    assert entry["nodes"] == len(nodes) == ndimage.label(mask.array, np.ones((3, 3, 3)))[1] > 0
    assert sum(node["volume_mm3"] for node in nodes) == pytest.approx(entry["volume_mm3"])
    of_run, of_case = ((tmp_path / "out" / folder / "nodes.csv").read_text() for folder in ("", "ct"))
    assert of_run == of_case and len(of_run.splitlines()) == len(nodes) + 1


@pytest.mark.parametrize(("format", "extension"), [("nifti", "nii.gz"), ("nrrd", "nrrd")])
def test_batch_writes_the_format_asked_for(tmp_path, thorax, batch, format, extension):
    write_volume(thorax, tmp_path / "in" / "ct.mha")
    batch("--format", format, "--no-preview")
    names = {p.name for p in (tmp_path / "out" / "ct").iterdir()}
    assert names == {f"segmentation.{extension}", "nodes.csv", "nodes.json", "case.json"}
    np.testing.assert_allclose(
        read_volume(tmp_path / "out" / "ct" / f"segmentation.{extension}").affine, thorax.affine, atol=1e-4
    )


def test_dicom_series_gives_the_same_mask_as_its_file(tmp_path, thorax, batch, write_dicom):
    write_volume(thorax, tmp_path / "in" / "file.mha")
    write_dicom(thorax, tmp_path / "in" / "study" / "series")
    _, _, entries = batch("--no-preview")
    masks = [read_volume(tmp_path / "out" / entries[name]["mask"]) for name in ("file", "series")]
    np.testing.assert_array_equal(masks[0].array, masks[1].array)
    np.testing.assert_allclose(masks[0].affine, masks[1].affine, atol=1e-6)


def test_rerun_skips_what_is_done_unless_told_otherwise(tmp_path, thorax, batch):
    write_volume(thorax, tmp_path / "in" / "ct.mha")
    batch("--no-preview")
    mask = tmp_path / "out" / "ct" / "segmentation.mha"
    first = mask.stat().st_mtime_ns
    write_volume(thorax, tmp_path / "in" / "new.mha")
    _, text, entries = batch("--no-preview")
    assert "ct: an earlier run did it, " in text
    assert (entries["ct"]["status"], entries["new"]["status"]) == ("done", "done")
    rows = (tmp_path / "out" / "nodes.csv").read_text().splitlines()
    assert {row.split(",")[0] for row in rows} == {"case", "ct", "new"}
    assert mask.stat().st_mtime_ns == first
    _, _, entries = batch("--no-preview", "--overwrite")
    assert entries["ct"]["status"] == "done"
    assert mask.stat().st_mtime_ns > first


def test_mirroring_changes_the_probability_and_does_the_case_again(tmp_path, thorax, batch, tiny_bundle):
    write_volume(thorax, tmp_path / "in" / "ct.mha")
    found = {}
    for mirror, option in ((0, []), (1, ["--mirror", "1"]), (8, ["--mirror", "8"])):
        _, text, _ = batch("--no-preview", "--probability", *option)
        assert "ct: done in" in text
        found[mirror] = read_volume(tmp_path / "out" / "ct" / "probability.mha").array
        wanted = segment(thorax, load_model(tiny_bundle, "cpu", mirror=mirror)).probability.array
        np.testing.assert_allclose(found[mirror], wanted, atol=1e-6)
    assert np.abs(found[8] - found[0]).max() > 1e-3
    assert np.abs(found[8] - found[1]).max() > 1e-3
    assert "ct: done in" in batch("--no-preview", "--probability")[1]
    assert "ct: an earlier run did it" in batch("--no-preview", "--probability", "--mirror", "0")[1]  # the bundle's


@pytest.mark.slow
def test_other_members_do_the_case_again(tmp_path, thorax, batch, tiny_bundle, tiny_ensemble):
    write_volume(thorax, tmp_path / "in" / "ct.mha")
    common = ("--no-preview", "--probability", "--model", str(tiny_ensemble))
    for members in (None, 2, 1):
        _, text, entries = batch(*common, *([] if members is None else ["--members", str(members)]))
        assert "ct: done in" in text
        assert entries["ct"]["versions"].get("members") == {None: "3", 2: "2", 1: None}[members]
        found = read_volume(tmp_path / "out" / "ct" / "probability.mha").array
        wanted = segment(thorax, load_model(tiny_ensemble, "cpu", members=members)).probability.array
        np.testing.assert_allclose(found, wanted, atol=1e-6)
    single = segment(thorax, load_model(tiny_bundle, "cpu")).probability.array
    np.testing.assert_allclose(found, single, atol=1e-6)
    assert "ct: done in" in batch(*common)[1]
    assert "ct: an earlier run did it" in batch(*common, "--members", "3")[1]


def test_members_that_there_are_not_end_in_a_sentence(tmp_path, thorax, tiny_ensemble, capfd):
    write_volume(thorax, tmp_path / "ct.mha")
    given = [str(tmp_path / "ct.mha"), "-o", str(tmp_path / "out"), "--model", str(tiny_ensemble), "--members", "4"]
    assert cli.main(["batch", *given]) == 2
    assert capfd.readouterr().err.splitlines()[-1] == "The number of members must be 1 to 3, not 4"


def test_info_tells_the_members(tiny_bundle, tiny_ensemble, capfd):
    for bundle, options, wanted in (
        (tiny_bundle, [], "1"),
        (tiny_ensemble, [], "3"),
        (tiny_ensemble, ["--members", "2"], "3, the first 2 used"),
    ):
        assert cli.main(["info", "--model", str(bundle), *options]) == 0
        assert f"members     {wanted}\n" in capfd.readouterr().out


def test_a_bundle_that_mirrors_does_so_without_being_told(tmp_path, thorax, batch, tiny_bundle):
    write_volume(thorax, tmp_path / "in" / "ct.mha")
    shutil.copytree(tiny_bundle, tmp_path / "model")
    replace(ModelSpec.load(tiny_bundle), mirror=4).save(tmp_path / "model")
    batch("--no-preview", "--probability", "--model", str(tmp_path / "model"))
    found = read_volume(tmp_path / "out" / "ct" / "probability.mha").array
    wanted = segment(thorax, load_model(tiny_bundle, "cpu", mirror=4)).probability.array
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_pages_say_how_a_case_was_mirrored(tmp_path, thorax, batch):
    write_volume(thorax, tmp_path / "in" / "ct.mha")
    batch("--mirror", "4")
    for page in ("report.html", "ct/report.html"):
        assert "device cpu, mirror 4" in (tmp_path / "out" / page).read_text()


def test_mirroring_that_there_is_not_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.parser().parse_args(["--mirror", "3"])
    assert "argument --mirror: invalid choice: 3 (choose from 0, 1, 2, 4, 8)" in capsys.readouterr().err


def test_case_is_done_again_when_its_mask_or_its_model_changed(tmp_path, thorax, batch):
    write_volume(thorax, tmp_path / "in" / "ct.mha")
    batch("--no-preview")
    (tmp_path / "out" / "ct" / "segmentation.mha").unlink()
    assert batch("--no-preview")[1].startswith("ct: done in ")
    case = tmp_path / "out" / "ct" / "case.json"
    entry = json.loads(case.read_text())
    entry["versions"]["model"] = "another"
    case.write_text(json.dumps(entry))
    (tmp_path / "out" / "manifest.jsonl").write_text("{half a li")
    _, text, entries = batch("--no-preview")
    assert text.startswith("ct: done in ")
    assert entries["ct"]["versions"]["model"] != "another"


def test_case_is_done_again_with_other_weights(tmp_path, thorax, batch):
    write_volume(thorax, tmp_path / "in" / "ct.mha")
    batch("--no-preview")
    case = tmp_path / "out" / "ct" / "case.json"
    entry = json.loads(case.read_text())
    entry["versions"]["weights"] = "those of 8 bits"
    case.write_text(json.dumps(entry))
    (tmp_path / "out" / "manifest.jsonl").unlink()
    assert batch("--no-preview")[1].startswith("ct: done in ")


@pytest.mark.parametrize("command", ["batch", "info"])
def test_int8_of_a_bundle_without_it_cannot_start(tmp_path, thorax, tiny_bundle, capfd, command):
    write_volume(thorax, tmp_path / "ct.mha")
    files = [str(tmp_path / "ct.mha"), "-o", str(tmp_path / "out")] if command == "batch" else []
    assert cli.main([command, *files, "--model", str(tiny_bundle), "--precision", "int8"]) == 2
    last = capfd.readouterr().err.splitlines()[-1]
    assert "has no 8-bit network: leave out --precision int8, or add one with training.quantise" in last


@pytest.mark.parametrize("text", [None, "[{", '[{"case": "ct"}]'])
def test_case_whose_table_is_missing_or_damaged_is_done_again(tmp_path, thorax, batch, text):
    write_volume(thorax, tmp_path / "in" / "ct.mha")
    batch("--no-preview")
    table = tmp_path / "out" / "ct" / "nodes.json"
    good = table.read_text()
    table.unlink()
    if text is not None:
        table.write_text(text)
    assert batch("--no-preview")[1].startswith("ct: done in ")
    assert table.read_text() == good


def test_case_that_fails_later_leaves_the_runs_table(tmp_path, thorax, batch):
    for name in ("a", "b"):
        write_volume(thorax, tmp_path / "in" / f"{name}.mha")
    batch("--no-preview")
    (tmp_path / "in" / "b.mha").write_text("no image")
    assert batch("--no-preview", "--overwrite")[0] == 1
    rows = (tmp_path / "out" / "nodes.csv").read_text().splitlines()
    assert {row.split(",")[0] for row in rows} == {"case", "a"}


def test_names_of_the_runs_own_files_are_no_folders(tmp_path, thorax, batch):
    write_volume(thorax, tmp_path / "in" / "nodes.csv.mha")
    write_volume(thorax, tmp_path / "in" / "manifest.jsonl.mha")
    status, _, entries = batch("--no-preview")
    assert status == 0
    assert sorted(name.rpartition("-")[0] for name in entries) == ["manifest.jsonl", "nodes.csv"]


def test_name_of_another_runs_case_is_not_overwritten(tmp_path, thorax, batch, tiny_bundle):
    write_volume(thorax, tmp_path / "in" / "ct.mha")
    batch("--no-preview")
    (tmp_path / "later").mkdir()
    write_volume(thorax, tmp_path / "later" / "ct.nrrd")
    places = [f"{tmp_path}/later", "-o", f"{tmp_path}/out", "--model", f"{tiny_bundle}"]
    assert cli.main(["batch", *places, "--no-preview", "--no-report"]) == 0
    names = sorted(p.name for p in (tmp_path / "out").iterdir() if p.is_dir())
    assert names[0] == "ct"
    assert names[1].startswith("ct-")


def test_truth_gives_dice_and_assd(tmp_path, thorax, batch):
    write_volume(thorax, tmp_path / "in" / "a-ct.mha")
    write_volume(thorax, tmp_path / "in" / "b.mha")
    (tmp_path / "truth").mkdir()
    _, _, entries = batch("--no-preview")
    found = read_volume(tmp_path / "out" / entries["a-ct"]["mask"])
    write_volume(found, tmp_path / "truth" / "a-seg.nrrd")
    status, text, entries = batch("--no-preview", "--truth", f"{tmp_path}/truth")
    assert status == 0  # the case that is done but has no scores yet is scored
    assert "b: an earlier run did it" in text
    assert "Dice 1.000, ASSD 0.00 mm" in text
    assert (entries["a-ct"]["dice"], entries["a-ct"]["assd_mm"]) == (1.0, 0.0)
    assert "a-ct: an earlier run did it" in batch("--no-preview", "--truth", f"{tmp_path}/truth")[1]
    _, _, entries = batch("--no-preview", "--truth", f"{tmp_path}/truth", "--overwrite")
    assert entries["b"]["warnings"] == ["No truth with this case's name was found."]


@pytest.mark.parametrize(
    "order",
    ["--model m --device cpu --mirror 2 batch in -o out", "batch in -o out --model m --device cpu --mirror 2"],
)
def test_options_count_before_and_after_the_command(order):
    options = cli.parser().parse_args(order.split())
    assert (options.model, options.device, options.mirror) == (Path("m"), "cpu", 2)


def test_info_names_bundle_and_versions(tiny_bundle, capfd):
    assert cli.main(["info", "--model", str(tiny_bundle)]) == 0
    captured = capfd.readouterr()
    assert str(tiny_bundle) in captured.out
    assert "SimpleITK" in captured.out
    assert "windows     0.5 of a patch apart, mirror 0\n" in captured.out
    assert cli.main(["info", "--model", str(tiny_bundle), "--mirror", "2"]) == 0
    assert "mirror 2\n" in capfd.readouterr().out
    assert captured.err.splitlines()[-1] == "The model bundle is complete and loads"


def test_a_reader_that_has_ended_is_named_without_a_traceback(tiny_bundle):
    command = [sys.executable, ROOT / "process.py", "info", "--model", tiny_bundle]
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        run = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True)
    assert run.returncode == 141
    assert run.stderr == "Stopped: what read the output has ended; finished cases are kept\n"


def test_a_batch_whose_reader_has_ended_keeps_what_is_done(tmp_path, thorax, tiny_bundle):
    write_volume(thorax, tmp_path / "ct.mha")
    arguments = ["batch", tmp_path / "ct.mha", "-o", tmp_path / "out", "--model", tiny_bundle]
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        run = subprocess.run([sys.executable, ROOT / "process.py", *arguments], stdout=closed, stderr=closed)
    assert run.returncode == 141
    assert not list((tmp_path / "out").rglob("*.part-*"))


def test_bad_arguments_exit_with_2():
    run = subprocess.run([sys.executable, ROOT / "process.py", "batch"], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "the following arguments are required" in run.stderr.splitlines()[-1]


def test_batch_on_a_cpu_imports_neither_torch_nor_evalutils_nor_phones_home(tmp_path, thorax, tiny_bundle):
    write_volume(thorax, tmp_path / "ct.mha")
    unwanted = ("torch", "evalutils", "pandas", "training", "phantom", "openvino_telemetry")
    code = f"""
import sys
from pathlib import Path
from lnq import cli
from lnq.inference.backends import load_model
from lnq.archive.case import ImageFile
from lnq.batch.case import run_case
from lnq.batch.settings import WorkerSettings
from lnq.results.case_record import Versions
settings = WorkerSettings({str(tmp_path / "out")!r}, {str(tiny_bundle)!r})
model = load_model(settings.bundle, "cpu")
record = run_case(ImageFile("ct", Path({str(tmp_path / "ct.mha")!r})), model, settings, Versions.of(model))
print(record.status, [m for m in {unwanted!r} if sys.modules.get(m)])
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "done []"


def test_names_with_line_breaks_and_odd_bytes_leave_one_last_sentence(tmp_path, tiny_bundle):
    (tmp_path / "in").mkdir()
    for name in (b"two\nlines.mha", b"caf\xe9.mha"):
        (tmp_path / "in" / os.fsdecode(name)).write_text("no image")
    arguments = ["batch", tmp_path / "in", "-o", tmp_path / "out", "--model", tiny_bundle]
    run = subprocess.run([sys.executable, ROOT / "process.py", *arguments], capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith("2 cases failed, the first: ")
    assert len(run.stdout.splitlines()) == 2


def test_a_container_scores_no_detections_and_so_needs_no_scikit_learn():
    code = "import sys, lnq.challenge.container; print([m for m in ('sklearn', 'torch') if sys.modules.get(m)])"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"
