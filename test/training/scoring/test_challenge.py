from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from lnq.image.itk import write_volume
from lnq.image.volume import Volume, make_affine
from training.evaluate import main
from training.scoring.challenge import GRID_TOLERANCE, mask_of_job, read_jobs
from training.scoring.truths import Truth, read_instances

PLACE = "images/mediastinal-lymph-node-segmentation"
GRID = Volume(np.zeros((4, 6, 12), np.uint8), make_affine((2.0, 1.5, 0.8), (3.0, -4.0, 5.0)))
NAMES = ("lnq2023-val-0001", "lnq2023-val-0002", "lnq2023-val-0003")


def row(start: int, stop: int) -> Volume:
    """Voxels along x, 0.8 mm apart; each belongs to the contour."""
    array = np.zeros(GRID.shape, np.uint8)
    array[2, 3, start:stop] = 1
    return GRID.with_array(array)


def job(case: str, **fields: Any) -> dict[str, Any]:
    """An entry of predictions.json as the platform writes it, but for the given fields."""
    ct = {"socket": {"slug": "mediastinal-ct", "relative_path": "images/mediastinal-ct"}}
    mask = {"socket": {"slug": "mediastinal-lymph-node", "relative_path": PLACE}}
    return {
        "pk": f"job-{case}",
        "status": "Succeeded",
        "inputs": [ct | {"image": {"name": f"{case}-ct.mha", "pk": "1"}, "file": None, "value": None}],
        "outputs": [mask | {"image": {"name": "any.mha", "pk": "2"}, "file": None, "value": None}],
        "exec_duration": None,
        "invoke_duration": None,
    } | fields


class Submission:
    """A folder with truths, jobs' outputs and predictions.json."""

    def __init__(self, folder: Path) -> None:
        self.truth, self.path, self.output = folder / "truth", folder / "predictions.json", folder / "out"
        self.truth.mkdir()
        self.jobs: list[dict[str, Any]] = []

    def place(self, case: str) -> Path:
        return self.path.parent / f"job-{case}" / "output" / PLACE

    def add(self, case: str, mask: Volume | None, truth: Volume | None, **fields: Any) -> None:
        """One more case; its job comes before those that are there."""
        if truth is not None:
            write_volume(truth, self.truth / f"{case}-seg.nrrd")
        if mask is not None:
            self.place(case).mkdir(parents=True)
            write_volume(mask, self.place(case) / f"{case[-2:]}.mha")
        self.jobs.insert(0, job(case, **fields))

    def run(self, *options: str) -> int:
        self.path.write_text(json.dumps(self.jobs))
        return main(["--challenge", str(self.path), "--truth", str(self.truth), "-o", str(self.output), *options])

    def metrics(self) -> dict[str, Any]:
        def refuse(token: str) -> None:
            raise AssertionError(f"{token} is no JSON")

        return json.loads((self.output / "metrics.json").read_text(), parse_constant=refuse)


@pytest.fixture
def submission(tmp_path: Path) -> Submission:
    return Submission(tmp_path)


@pytest.fixture
def three(submission: Submission) -> Submission:
    """Three cases of Dice 0.5, 0 and 1, and of 0.6, 2.4 and 0 mm."""
    submission.add(NAMES[0], row(4, 8), row(2, 6), exec_duration="P0DT00H01M08.500000S")
    submission.add(NAMES[1], row(4, 5), row(1, 2))
    submission.add(NAMES[2], row(1, 9), row(1, 9))
    return submission


def sitk_dice(truth: Path, mask: Path) -> float:
    measures = sitk.LabelOverlapMeasuresImageFilter()
    measures.Execute(sitk.ReadImage(truth), sitk.ReadImage(mask))
    return measures.GetDiceCoefficient()


def test_metrics_hold_the_scores_in_the_jobs_order_and_their_means(three: Submission) -> None:
    assert three.run() == 0
    expected = {
        number: {
            "DiceCoefficient": sitk_dice(three.truth / f"{case}-seg.nrrd", three.place(case) / f"{case[-2:]}.mha"),
            "AverageSymmetricSurfaceDistance": pytest.approx(assd, abs=1e-6),
        }
        for number, case, assd in (("0003", NAMES[2], 0.0), ("0002", NAMES[1], 2.4), ("0001", NAMES[0], 0.6))
    }
    means = {"DiceCoefficient": 0.5, "AverageSymmetricSurfaceDistance": pytest.approx(1.0, abs=1e-6)}
    found = three.metrics()
    assert found == {"case": expected, "aggregates": means}
    assert list(found["case"]) == list(expected)


@pytest.mark.parametrize("names", [("a", "b"), ("lnq2023-val-0001", "lnq2023-test-0001"), ("lnq2023-val-0001", "b")])
def test_cases_without_a_number_of_their_own_go_by_their_names(submission: Submission, names: tuple[str, str]) -> None:
    for name in names:
        submission.add(name, row(1, 3), row(1, 3))
    assert submission.run() == 0
    assert list(submission.metrics()["case"]) == [*reversed(names)]


def test_table_is_that_of_masks_and_means_and_medians_are_printed(
    three: Submission, capsys: pytest.CaptureFixture[str]
) -> None:
    assert three.run() == 0
    with open(three.output / "cases.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["dice"]) for row in rows] == [0.5, 0.0, 1.0]
    assert [float(row["assd_mm"]) for row in rows] == pytest.approx([0.6, 2.4, 0.0], abs=1e-6)
    assert [row["seconds"] for row in rows] == ["68.5", "nan", "nan"]
    lines = capsys.readouterr().out.splitlines()
    assert {"mean_dice: 0.5", "median_dice: 0.5", "mean_assd_mm: 1", "median_assd_mm: 0.6"} <= set(lines)


def test_layout_of_2023_is_read_alike(three: Submission) -> None:
    three.path.write_text(json.dumps(three.jobs))
    today = read_jobs(three.path)
    three.path.write_text(json.dumps(three.jobs).replace('"socket"', '"interface"'))
    assert '"interface"' in three.path.read_text()
    assert [str(job) for job in read_jobs(three.path)] == [str(job) for job in today]
    assert [job.case for job in today] == [*reversed(NAMES)]


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        ("P0DT00H00M08S", 8.0),
        ("P1DT02H03M04.250000S", 93784.25),
        ("PT8S", 8.0),
        (None, math.nan),
        ("8 s", math.nan),
        (8, math.nan),
    ],
)
def test_seconds_come_from_the_jobs_duration(tmp_path: Path, duration: Any, seconds: float) -> None:
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps([job("a", exec_duration=duration)]))
    assert read_jobs(path)[0].seconds == pytest.approx(seconds, nan_ok=True)


def test_empty_masks_are_scored_as_elsewhere_and_metrics_stay_json(
    three: Submission, capsys: pytest.CaptureFixture[str]
) -> None:
    three.add("lnq2023-val-0004", row(0, 0), row(1, 3))
    three.add("lnq2023-val-0005", row(0, 0), row(0, 0))
    assert three.run() == 0
    assert "* Where one of two masks is empty there is no ASSD: the largest of the set" in capsys.readouterr().out
    cases = three.metrics()["case"]
    assert cases["0004"] == {"DiceCoefficient": 0.0, "AverageSymmetricSurfaceDistance": pytest.approx(2.4)}
    assert cases["0005"] == {"DiceCoefficient": 1.0, "AverageSymmetricSurfaceDistance": 0.0}


def test_distance_that_no_case_has_is_null(submission: Submission) -> None:
    submission.add(NAMES[0], row(0, 0), row(1, 3))
    assert submission.run() == 0
    scores = {"DiceCoefficient": 0.0, "AverageSymmetricSurfaceDistance": None}
    assert submission.metrics() == {"case": {"0001": scores}, "aggregates": scores}


def test_all_that_the_platform_would_refuse_is_said_and_no_metrics_are_written(
    three: Submission, capsys: pytest.CaptureFixture[str]
) -> None:
    assert three.run() == 0
    before = (three.output / "metrics.json").read_bytes()
    three.add("a", None, row(1, 3), status="Failed")
    three.add("b", row(1, 3), None)
    write_volume(row(1, 3), three.truth / "c-seg.nrrd")
    capsys.readouterr()
    assert three.run() == 1
    assert (three.output / "metrics.json").read_bytes() == before
    assert [line for line in capsys.readouterr().err.splitlines() if "Scoring" not in line] == [
        f"b is left out: Job job-b has no truth in {three.truth}",
        "a is left out: Job job-a has the status Failed, not Succeeded",
        "c is left out: No job has its CT as input, so the prediction is missing",
        "metrics.json is not written: the platform would fail this submission",
        "3 cases were left out: a, b, c",
    ]


def test_submission_of_nothing_that_can_be_scored_fails_alike(
    submission: Submission, capsys: pytest.CaptureFixture[str]
) -> None:
    submission.add("a", None, row(1, 3), status="Cancelled")
    assert submission.run() == 1
    assert capsys.readouterr().err.endswith(
        "a is left out: Job job-a has the status Cancelled, not Succeeded\n"
        "metrics.json is not written: the platform would fail this submission\n"
        "1 cases were left out: a\n"
    )
    assert not submission.output.exists()


def refusal(submission: Submission) -> str:
    """Why the mask of case a is refused."""
    submission.path.write_text(json.dumps(submission.jobs))
    truth = Truth("a", submission.truth / "a-seg.nrrd", None)
    with pytest.raises(ValueError) as caught:
        mask_of_job(read_jobs(submission.path), truth, read_instances(truth.path))
    return str(caught.value)


def test_output_must_be_one_mha_file(submission: Submission) -> None:
    submission.add("a", row(1, 3), row(1, 3))
    place = submission.place("a")
    (place / ".DS_Store").touch()
    (place / "a.mha").rename(place / "a.nii")
    assert refusal(submission) == "a.nii of job job-a is not .mha"
    write_volume(row(1, 3), place / "b.mha")
    assert refusal(submission) == f"{place} holds 2 files where one mask should be"
    (place / "b.mha").unlink()
    (place / "a.nii").unlink()
    assert refusal(submission) == f"{place} holds no mask"
    (place / "a.mha").write_text("no image")
    assert refusal(submission).startswith("a.mha cannot be read: ")
    submission.jobs[0]["outputs"] = []
    assert refusal(submission) == "Job job-a has no output that is the mask"
    submission.add("a", None, None)
    assert refusal(submission) == "2 jobs have its CT as input"


@pytest.mark.parametrize(
    ("mask", "sentence"),
    [
        (GRID.crop(np.s_[1:, :, :]), "the size [z y x] 3 6 12 (a-seg.nrrd: 4 6 12) and the origin [L P S] "
         "3 -4 7 (a-seg.nrrd: 3 -4 5)"),
        (Volume(GRID.array, make_affine((2.5, 1.5, 0.8), (3.0, -4.0, 5.0))),
         "the spacing [z y x] 2.5 1.5 0.8 (a-seg.nrrd: 2 1.5 0.8)"),
        (Volume(GRID.array, make_affine((2.0, 1.5, 0.8), (3.0, -4.000001, 5.0))),
         "the origin [L P S] 3 -4.000001 5 (a-seg.nrrd: 3 -4 5)"),
        (Volume(GRID.array, make_affine((2.0, 1.5, 0.8), (3.0, -4.0, 5.0), np.eye(3))),
         "the direction 1 0 0 0 1 0 0 0 1 (a-seg.nrrd: 0 0 1 0 1 0 1 0 0)"),
        (GRID.with_array(row(1, 3).array * 255), "values other than 0 and 1, such as 255"),
    ],
)  # fmt: skip
def test_other_grids_and_values_are_refused(submission: Submission, mask: Volume, sentence: str) -> None:
    submission.add("a", mask, row(1, 3))
    assert refusal(submission) == f"a.mha of job job-a has {sentence}"


@pytest.mark.parametrize("part", [0.9, 1.1])
@pytest.mark.parametrize("change", ["origin", "spacing", "direction"])
def test_grids_are_compared_as_closely_as_itk_does(submission: Submission, part: float, change: str) -> None:
    step = part * GRID_TOLERANCE
    spacing = (2.0 + (change == "spacing") * step * 0.8, 1.5, 0.8)
    origin = (3.0, -4.0 + (change == "origin") * step * 0.8, 5.0)
    angle = (change == "direction") * step
    axes = [[0.0, -math.sin(angle), math.cos(angle)], [0.0, math.cos(angle), math.sin(angle)], [1.0, 0.0, 0.0]]
    mask = Volume(row(1, 3).array, make_affine(spacing, origin, np.array(axes)))
    submission.add("a", mask, row(1, 3))
    truth, place = submission.truth / "a-seg.nrrd", submission.place("a") / "a.mha"
    if part < 1:
        submission.path.write_text(json.dumps(submission.jobs))
        found, _ = mask_of_job(read_jobs(submission.path), Truth("a", truth, None), read_instances(truth))
        assert np.array_equal(found.array, mask.array) and sitk_dice(truth, place) == 1.0
    else:
        assert f"has the {change} " in refusal(submission)
        with pytest.raises(RuntimeError, match="do not occupy the same physical space"):
            sitk_dice(truth, place)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{", "{path} is no JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b"\xff\xfe\xff", "{path} is no JSON: 'utf-16-le' codec can't decode byte 0xff in position 2: truncated data"),
        (b"{}", "{path} is no list of jobs"),
        (b"[]", "{path} is no list of jobs"),
        (b"[7]", "Job 1 of {path} lacks the text `pk`"),
        (json.dumps([job("a"), job("b", status=None)]).encode(), "Job 2 of {path} lacks the text `status`"),
        (json.dumps([job("a", inputs={})]).encode(), "Job 1 of {path} lacks the list `inputs`"),
        (json.dumps([job("a", inputs=[])]).encode(), "Job 1 of {path} has no input images/mediastinal-ct"),
        (json.dumps([job("a", inputs=[3])]).encode(), "Job 1 of {path} lacks the object `socket`"),
        (json.dumps([job("a", outputs=None)]).encode(), "Job 1 of {path} lacks the list `outputs`"),
        (json.dumps([job("a")]).replace('"name": "a-ct.mha"', '"name": 3').encode(),
         "Job 1 of {path} lacks the text `name`"),
        (json.dumps([job("a")]).replace('"relative_path"', '"path"').encode(),
         "Job 1 of {path} lacks the text `relative_path`"),
    ],
)  # fmt: skip
def test_what_is_no_predictions_json_is_refused(
    submission: Submission, content: bytes, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    submission.path.write_bytes(content)
    arguments = ["--challenge", str(submission.path), "--truth", str(submission.truth), "-o", str(submission.output)]
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"Error: {sentence.replace('{path}', str(submission.path))}\n"
    assert not submission.output.exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--challenge", "x"], "--challenge and --truth go together"),
        (["--truth", "y"], "--challenge and --truth go together"),
        (["--challenge", "x", "--truth", "y"], "x is no file"),
        *(
            (
                ["--challenge", "x", "--truth", "y", *more],
                "--challenge scores masks that are there: only --truth, --output and --worst go with it",
            )
            for more in (["z"], ["--model", "z"], ["--checkpoint", "z"], ["--predictions", "z"], ["--tune-threshold"])
        ),
    ],
)
def test_what_cannot_go_with_a_submission_is_refused(
    tmp_path: Path, options: Sequence[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*options, "-o", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"Error: {sentence}\n"
