from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from training.data.splits import (
    Selection,
    SplitRow,
    cases_for,
    make_splits,
    read_splits,
    training_folders,
    write_splits,
)
from training.finetune import main as finetune
from training.pretrain import main as pretrain

CHALLENGE = (
    [(f"lnq2023-train-{i:04d}", f"lnq2023-train-{i:04d}", "train") for i in range(1, 394)]
    + [(f"lnq2023-val-{i:04d}", f"lnq2023-val-{i:04d}", "validation") for i in range(1, 21)]
    + [(f"lnq2023-test-{i:04d}", f"lnq2023-test-{i:04d}", "test") for i in range(1, 101)]
)


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(["case,patient,split,fold", *lines]) + "\n")
    return path


def test_challenge_is_split_as_named_and_folded_evenly() -> None:
    rows = make_splits(CHALLENGE, {})
    assert [len(cases_for(part, rows)) for part in ("train", "validation", "test")] == [393, 20, 100]
    assert sorted(Counter(row.fold for row in rows if row.split == "train").values()) == [78, 78, 79, 79, 79]
    assert all(row.fold is None for row in rows if row.split != "train")


def test_folds_do_not_depend_on_the_order_of_the_cases() -> None:
    assert make_splits(CHALLENGE[::-1], {}) == make_splits(CHALLENGE, {})


def test_with_a_fold_training_and_validation_are_complements() -> None:
    rows = make_splits(CHALLENGE, {}, folds=4)
    for fold in range(4):
        train, validation = cases_for("train", rows, fold), cases_for("validation", rows, fold)
        assert sorted(train + validation) == cases_for("train", rows)
        assert set(validation) == {row.case for row in rows if row.fold == fold}
        assert len(cases_for("test", rows, fold)) == 100
    with pytest.raises(ValueError, match=r"^There is no fold 4: the folds are 0, 1, 2, 3$"):
        cases_for("train", rows, 4)


def test_cases_of_a_patient_stay_together() -> None:
    scans = [(f"{patient}-{scan}", patient, "train") for patient in "abcdefgh" for scan in range(3)]
    rows = make_splits(scans, {}, folds=2)
    for patient in "abcdefgh":
        assert len({row.fold for row in rows if row.patient == patient}) == 1
    assert sorted(Counter(row.fold for row in rows).values()) == [12, 12]
    torn = [("x-1", "x", "train"), ("x-2", "x", "test"), ("y", "y", "train")]
    assert [row.split for row in make_splits(torn, {})] == ["test", "test", "train"]


def test_rows_that_are_there_stay_and_new_cases_join_them() -> None:
    earlier = {
        "a": SplitRow("a", "p", "train", 2),
        "b": SplitRow("b", "q", "validation"),
        "gone": SplitRow("gone", "r", "train", 0),
    }
    new = [("a", "p", "train"), ("b", "q", "train"), ("c", "q", "train"), ("d", "p", "train"), ("e", "e", "train")]
    rows = {row.case: row for row in make_splits(new, earlier)}
    assert rows["a"] == earlier["a"] and rows["b"] == earlier["b"] and "gone" not in rows
    assert rows["c"] == SplitRow("c", "q", "validation")
    assert rows["d"] == SplitRow("d", "p", "train", 2)
    assert rows["e"] == SplitRow("e", "e", "train", 0)  # of the three folds that there are, the first empty one
    with pytest.raises(ValueError, match=r"not 5 \(the file that is there has 3: delete it to draw new ones\)$"):
        make_splits(new, earlier, folds=5)


def test_one_fold_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^Folds must be 2 or more, and the same as before, not 1$"):
        make_splits(CHALLENGE, {}, folds=1)


def test_file_gives_back_what_was_written(tmp_path: Path) -> None:
    rows = [SplitRow("a", "p", "train", 0), SplitRow("b,c", "q", "test"), SplitRow("d", "r", "unused")]
    write_splits(tmp_path / "splits.csv", rows)
    assert list(read_splits(tmp_path / "splits.csv").values()) == rows
    assert (tmp_path / "splits.csv").read_text().splitlines()[:2] == ["case,patient,split,fold", "a,p,train,0"]


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["a,p,training,0"], "line 2: split must be one of train, validation, test, unused, not 'training'"),
        (["a,p,test,0"], "line 2: a fold is a whole number from 0 on, of a case for training"),
        (["a,p,train,1.5"], "line 2: a fold is a whole number from 0 on, of a case for training"),
        (["a,p,train,0", "a,p,train,0"], " names a twice"),
        (["a,p,train,0", "b,p,test,"], " puts cases of one patient, p, into different splits or folds"),
        (["a,p,train,0", "b,p,train,1"], " puts cases of one patient, p, into different splits or folds"),
    ],
)
def test_file_with_an_error_is_refused(tmp_path: Path, lines: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"{sentence}$"):
        read_splits(write(tmp_path / "splits.csv", *lines))


def test_file_without_a_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "splits.csv").write_text("case,split\na,train\n")
    with pytest.raises(ValueError, match=r"splits.csv must have the columns case, patient, split, fold$"):
        read_splits(tmp_path / "splits.csv")


def test_training_takes_what_the_file_says(prepared: Path, tmp_path: Path) -> None:
    def names(**selection: object) -> list[str]:
        return [folder.name for folder in training_folders(prepared, Selection(**selection))]  # type: ignore[arg-type]

    assert names() == ["case-00", "case-01", "case-02"]  # no file, no choice
    assert names(annotated="partial") == ["case-00", "case-01"]
    assert names(annotated="full") == ["case-02"]
    lines = ["case-00,a,train,0", "case-01,b,train,1", "case-02,c,test,", "case-99,d,train,1"]
    write(prepared / "splits.csv", *lines)
    assert names() == ["case-00", "case-01"]
    assert names(fold=0) == ["case-01"]
    assert names(fold=0, annotated="partial") == ["case-01"]
    other = write(tmp_path / "other.csv", "case-00,a,unused,", "case-01,b,validation,", "case-02,c,train,")
    assert names(splits=other) == ["case-02"]


def test_training_without_cases_is_refused(prepared: Path, tmp_path: Path) -> None:
    def refuse(sentence: str, **selection: object) -> None:
        with pytest.raises(ValueError, match=f"{sentence}$"):
            training_folders(prepared, Selection(**selection))  # type: ignore[arg-type]

    refuse("There is no splits file .*prepared/splits.csv", fold=0)
    refuse("There is no splits file .*/none.csv", splits=tmp_path / "none.csv")
    write(prepared / "splits.csv", "case-00,a,train,0", "case-01,b,train,0")
    refuse("splits.csv does not name 1 of the prepared cases, such as case-02: add them")
    write(prepared / "splits.csv", "case-00,a,train,0", "case-01,b,train,0", "case-02,c,test,")
    refuse("There is no fold 3: the folds are 0", fold=3)
    refuse("splits.csv leaves no prepared case to train on", fold=0)
    refuse("Of the cases in .* to train on none is annotated wholly", annotated="full")


@pytest.mark.parametrize(("command", "stage"), [(pretrain, "pretraining"), (finetune, "finetuning")])
def test_commands_train_on_the_selection(
    prepared: Path, tmp_path: Path, command: Callable[[list[str]], int], stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(prepared / "splits.csv", "case-00,a,train,0", "case-01,b,train,1", "case-02,c,test,")
    runs = []
    monkeypatch.setattr(f"training.engine.{stage}.train", lambda run, *_, **__: runs.append(run) or True)
    arguments = ["--preset", "tiny", "--data", str(prepared), "-o", str(tmp_path / "run"), "--fold", "0"]
    assert command(arguments) == 0
    assert runs[0].facts.cases == ("case-01",)
