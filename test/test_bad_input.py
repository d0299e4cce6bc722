"""Every input that must be refused, by the batch and by the container, with the sentence the user gets."""

import gzip
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

import process
from lnq.spec import ONNX_NAME
from lnq.volume import Volume, make_affine, to_sitk, write_volume
from phantom.make import make_phantom


def write_itk(array: np.ndarray, path: Path, **options) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(array, **options), str(path))


def edit_header(volume: Volume, path: Path, old: str, new: str) -> None:
    """An uncompressed .mha with one line of its header replaced."""
    write_volume(volume, path, compress=False)
    data = path.read_bytes()
    header = re.sub(rf"^{old} = .*$".encode(), f"{old} = {new}".encode(), data[:1000], flags=re.MULTILINE)
    path.write_bytes(header + data[1000:])


def cut_off(volume: Volume, path: Path) -> None:
    write_volume(volume, path)
    path.write_bytes(path.read_bytes()[:-2000])


def with_value(volume: Volume, value: float) -> Volume:
    array = volume.array.astype(np.float32)
    array[20, 20, 20] = value
    return volume.with_array(array)


def with_spacing(volume: Volume, spacing_mm: tuple[float, float, float]) -> Volume:
    return Volume(volume.array, make_affine(spacing_mm))


def without_line(volume: Volume, path: Path, key: str) -> None:
    """An uncompressed file without one line of its header."""
    write_volume(volume, path, compress=False)
    data = path.read_bytes()
    path.write_bytes(re.sub(rf"^{key}.*\n".encode(), b"", data[:1000], flags=re.MULTILINE) + data[1000:])


Writer = Callable[[Volume, Path], object]
BAD_FILES: list[tuple[str, Writer, str]] = [
    (
        "text.mha",
        lambda v, p: p.write_text("These are no voxels.\n"),
        "text.mha cannot be read: it is no medical image, or of a format that is not known",
    ),
    (
        "notes.txt",
        lambda v, p: p.write_text("No image.\n"),
        "notes.txt cannot be read: it is no medical image",
    ),
    ("cut.mha", cut_off, "cut.mha cannot be read: it is truncated"),
    ("cut.nii.gz", cut_off, "cut.nii.gz cannot be read: it is truncated or damaged"),
    (
        "cut.nii",
        cut_off,
        "cut.nii cannot be read: it is truncated",
    ),
    (
        "flat.mha",
        lambda v, p: write_itk(v.array[20], p),
        "flat.mha cannot be used: it has 2 dimensions, a CT volume has 3",
    ),
    (
        "film.nrrd",
        lambda v, p: sitk.WriteImage(sitk.JoinSeries([to_sitk(v)] * 2), str(p)),
        "film.nrrd cannot be used: it has 4 dimensions, a CT volume has 3",
    ),
    (
        "colour.mha",
        lambda v, p: write_itk(np.zeros((8, 8, 8, 3), np.uint8), p, isVector=True),
        "colour.mha cannot be used: it is a colour or vector image, a CT has one value per voxel",
    ),
    (
        "nan.mha",
        lambda v, p: write_volume(with_value(v, np.nan), p),
        "nan.mha cannot be used: it holds NaN or infinite values",
    ),
    (
        "infinite.nrrd",
        lambda v, p: write_volume(with_value(v, np.inf), p),
        "infinite.nrrd cannot be used: it holds NaN or infinite values",
    ),
    (
        "air.mha",
        lambda v, p: write_volume(v.with_array(np.full_like(v.array, -1000)), p),
        "air.mha cannot be used: it shows only air",
    ),
    (
        "slice.mha",
        lambda v, p: write_volume(Volume(v.array[20:21], v.affine), p),
        "slice.mha cannot be used: it is a single slice, a CT volume is needed",
    ),
    (
        "zero.mha",
        lambda v, p: edit_header(v, p, "ElementSpacing", "5 0 5"),
        "zero.mha cannot be read: its voxel spacing is zero or not a number",
    ),
    (
        "fine.mha",
        lambda v, p: write_volume(with_spacing(v, (5, 0.1, 0.1)), p),
        "fine.mha cannot be used: its voxel spacing 0.1 x 0.1 x 5 mm lies outside 0.2-15 mm",
    ),
    (
        "coarse.mha",
        lambda v, p: write_volume(with_spacing(v, (16, 1, 1)), p),
        "coarse.mha cannot be used: its voxel spacing 1 x 1 x 16 mm lies outside 0.2-15 mm",
    ),
    (
        "sheared.mha",
        lambda v, p: edit_header(v, p, "TransformMatrix", "1 0 0 0.5 1 0 0 0 1"),
        "sheared.mha cannot be used: its orientation matrix is no rotation",
    ),
    (
        "bytes.mha",
        lambda v, p: write_volume(v.with_array((v.array > -500).astype(np.uint8)), p),
        "bytes.mha cannot be used: its voxels have 8 bits, CT values in HU need 16",
    ),
    (
        "shifted.mha",
        lambda v, p: write_volume(v.with_array(v.array + 1024), p),
        "shifted.mha cannot be used: its values are not HU, none lies below -200",
    ),
    (
        "huge.mha",
        lambda v, p: write_volume(with_value(v, 1e30), p),
        "huge.mha cannot be used: its values are not HU, they go from -",
    ),
    (
        "unspaced.mha",
        lambda v, p: without_line(v, p, "ElementSpacing"),
        "unspaced.mha cannot be read: its header gives no voxel spacing",
    ),
    (
        "unspaced.nrrd",
        lambda v, p: without_line(v, p, "space directions"),
        "unspaced.nrrd cannot be read: its header gives no voxel spacing",
    ),
    ("empty.mha", lambda v, p: p.write_bytes(b""), "empty.mha cannot be read: it is no medical image"),
    (
        "nothing.nii.gz",
        lambda v, p: p.write_bytes(gzip.compress(b"")),
        "nothing.nii.gz cannot be read: it is no medical image",
    ),
]


@pytest.fixture
def run(tmp_path, tiny_bundle, capfd):
    """Runs process.py on tmp_path/input; returns its status and the last line on stderr."""

    def run(command: str, bundle: Path = tiny_bundle, output: Path = tmp_path / "output") -> tuple[int, str]:
        places = (
            ["batch", f"{tmp_path}/input", "--no-preview", "--no-report", "-o"]
            if command == "batch"
            else ["--input", f"{tmp_path}/input"]
        )
        places += [] if command == "batch" else ["--output"]
        status = process.main([*places, str(output), "--model", str(bundle)])
        return status, capfd.readouterr().err.strip().splitlines()[-1]

    return run


@pytest.fixture
def folder(tmp_path) -> Path:
    """Where the container looks for CTs; the batch finds them there too."""
    path = tmp_path / "input" / "images" / "mediastinal-ct"
    path.mkdir(parents=True)
    return path


def results(tmp_path: Path) -> list[dict]:
    return json.loads((tmp_path / "output" / "results.json").read_text())


def manifest(tmp_path: Path) -> dict[str, dict]:
    lines = (tmp_path / "output" / "manifest.jsonl").read_text().splitlines()
    return {entry["case"]: entry for entry in map(json.loads, lines)}


def masks(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in (tmp_path / "output").rglob("*.mha"))


@pytest.mark.parametrize(("name", "write", "sentence"), BAD_FILES, ids=[b[0] for b in BAD_FILES])
def test_container_refuses(tmp_path, folder, thorax, run, name, write, sentence):
    write(thorax, folder / name)
    status, last_line = run("container")
    assert status == 1
    assert last_line.startswith(sentence)
    (entry,) = results(tmp_path)
    assert entry["outputs"] == []
    assert entry["inputs"] == [{"type": "metaio_image", "filename": name}]
    assert entry["error_messages"] == [last_line]
    assert masks(tmp_path) == []


def test_batch_refuses_all_of_them_and_segments_the_sound_one(tmp_path, folder, thorax, run):
    bad = [b for b in BAD_FILES if b[0] != "notes.txt"]  # only files with an image's extension are cases
    for name, write, _ in bad:
        write(thorax, folder / name)
    write_volume(thorax, folder / "sound.mha")
    status, last_line = run("batch")
    assert status == 1
    assert last_line.startswith(f"{len(bad)} cases failed, the first: ")
    entries = {Path(entry["input"]).name: entry for entry in manifest(tmp_path).values()}
    for name, _, sentence in bad:
        assert entries[name]["status"] == "failed"
        assert entries[name]["mask"] is None
        assert entries[name]["error"].startswith(sentence)
    assert entries["sound.mha"]["status"] == "done"
    assert masks(tmp_path) == ["segmentation.mha"]


@pytest.mark.parametrize("command", ["container", "batch"])
def test_mr_series_is_refused(folder, thorax, run, write_dicom, command):
    write_dicom(thorax, folder / "study", modality="MR")
    status, last_line = run(command)
    assert status == 1
    assert last_line.startswith("study cannot be used: it holds MR images, no CT")


@pytest.mark.parametrize("command", ["container", "batch"])
def test_empty_folder_cannot_start(folder, run, command):
    status, last_line = run(command)
    assert status == 2
    assert last_line.startswith("No CT found in ")


def test_missing_folder_cannot_start(tmp_path, run):
    status, last_line = run("container")
    assert status == 2
    assert last_line.startswith("No CT found in ")
    assert results(tmp_path)[0]["error_messages"] == [last_line]
    assert run("batch") == (2, f"{tmp_path}/input does not exist: check the path")


@pytest.mark.parametrize("command", ["container", "batch"])
def test_altered_weights_cannot_start(tmp_path, folder, thorax, tiny_bundle, run, command):
    write_volume(thorax, folder / "ct.mha")
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for file in tiny_bundle.iterdir():
        (bundle / file.name).write_bytes(file.read_bytes())
    with (bundle / ONNX_NAME).open("ab") as file:
        file.write(b"\0")
    status, last_line = run(command, bundle=bundle)
    assert status == 2
    assert last_line == f"{bundle / ONNX_NAME} was altered: its SHA-256 is not the one in spec.json"
    if command == "container":
        assert results(tmp_path)[0]["error_messages"] == [last_line]


@pytest.mark.parametrize("command", ["container", "batch"])
def test_missing_bundle_cannot_start(tmp_path, folder, thorax, run, command):
    write_volume(thorax, folder / "ct.mha")
    status, last_line = run(command, bundle=tmp_path / "none")
    assert status == 2
    assert last_line == f"No model bundle in {tmp_path / 'none'}: spec.json is missing"


@pytest.mark.parametrize("command", ["container", "batch"])
def test_output_without_write_permission_cannot_start(tmp_path, folder, thorax, run, command):
    write_volume(thorax, folder / "ct.mha")
    (tmp_path / "file").write_text("in the way")
    status, last_line = run(command, output=tmp_path / "file" / "output")
    assert status == 2
    assert last_line == f"The output folder {tmp_path}/file/output cannot be written: Not a directory"


def test_case_whose_folder_cannot_be_made_fails_alone(tmp_path, folder, thorax, run):
    for name in ("blocked", "free"):
        write_volume(thorax, folder / f"{name}.mha")
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "blocked").write_text("in the way")
    status, last_line = run("batch")
    assert status == 1
    blocked = tmp_path / "output" / "blocked"
    sentence = f"blocked.mha could not be segmented: {blocked} is in the way: it is no result of an earlier run"
    assert last_line.startswith(sentence)
    assert manifest(tmp_path)["free"]["status"] == "done"


def test_container_segments_the_others_beside_a_bad_file(tmp_path, folder, thorax, run):
    write_volume(thorax, folder / "a.mha")
    cut_off(thorax, folder / "b.mha")
    write_volume(thorax, folder / "c.nrrd")
    status, last_line = run("container")
    assert status == 1
    assert last_line.startswith("b.mha cannot be read: it is truncated")
    assert masks(tmp_path) == ["a.mha", "c.mha"]
    assert [bool(e["error_messages"]) for e in results(tmp_path)] == [False, True, False]


CASES, BROKEN = 200, 20
SIZE, SPACING_MM = (48, 192, 192), (6.0, 2.0, 2.0)
DIFFERENT = 12  # phantoms; the others are these with other noise


def sound_cases(folder: Path, count: int) -> None:
    """Phantoms of one size."""
    rng = np.random.default_rng(0)
    drawn = [make_phantom(60000 + seed, SPACING_MM, SIZE).ct for seed in range(DIFFERENT)]
    for index in range(count):
        ct = drawn[index % DIFFERENT]
        noisy = ct.with_array((ct.array + rng.integers(-5, 6, ct.shape)).astype(np.int16))
        write_volume(noisy, folder / f"ct{index:03}.mha")


def break_one(folder: Path, index: int, sound: Volume, write_dicom: Callable[..., Path]) -> None:
    """A case that must fail; `index` chooses how."""
    kinds = [b for b in BAD_FILES if b[0] != "notes.txt"]  # that no folder's search takes for a case
    if index < 16:
        name, write, _ = kinds[index]
        write(sound, folder / f"broken-{name}")
        return
    series = folder / f"broken{index}" / f"series-broken{index}"
    if index == 16:
        write_dicom(sound, series, modality="MR", StudyInstanceUID="1.6.1")
        return
    write_dicom(sound, series, StudyInstanceUID=f"1.6.{index}")
    file = series / "0020.dcm"
    if index == 17:
        file.unlink()
    elif index == 18:
        file.write_bytes(file.read_bytes()[:-500])
    else:
        file.write_bytes(file.read_bytes()[:200])


def peak_kb(parent: int) -> int:
    """Peak resident memory of the workers of a run, in kB."""
    tasks = Path(f"/proc/{parent}/task").glob("*/children")  # a thread's own children are listed with it
    children = [child for task in tasks for child in task.read_text().split()]
    peaks = [0]
    for child in children:
        status = Path(f"/proc/{child}/status").read_text()
        peaks += [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")]
    return max(peaks)


@pytest.mark.slow
def test_two_hundred_cases_with_twenty_broken_ones(tmp_path, thorax, tiny_bundle, write_dicom):
    folder = tmp_path / "archive"
    folder.mkdir()
    sound_cases(folder, CASES - BROKEN)
    for index in range(BROKEN):
        break_one(folder, index, thorax, write_dicom)
    command = [sys.executable, process.__file__, "batch", str(folder), "-o", str(tmp_path / "out")]
    command += ["--model", str(tiny_bundle), "--json"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    entries, peaks = [], []
    for line in run.stdout:
        entries.append(json.loads(line))
        if entries[-1]["status"] == "done":
            peaks.append(peak_kb(run.pid))
    assert run.wait() == 1
    status = [entry["status"] for entry in entries]
    assert (status.count("done"), status.count("failed")) == (CASES - BROKEN, BROKEN)
    assert all("broken" in entry["error"] for entry in entries if entry["status"] == "failed")
    early, late = max(peaks[:20]), max(peaks)
    print(f"peak memory of a worker: {early / 1e6:.3f} GB after 20 results, {late / 1e6:.3f} GB after all")
    assert late <= 1.05 * early
