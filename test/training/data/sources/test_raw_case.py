from __future__ import annotations

from pathlib import Path

import pytest

from training.data.sources.raw_case import RawCase


def raw_case(folder: Path, **others) -> RawCase:
    image, label = folder / "a-ct.nrrd", folder / "a-seg.nrrd"
    image.write_bytes(b"x" * 30)
    label.write_bytes(b"x" * 7)
    return RawCase("a", image, label, False, "Smith", "train", **others)


def test_provenance_tells_files_by_name_and_size(tmp_path: Path) -> None:
    wanted = {"image": "a-ct.nrrd", "label": "a-seg.nrrd", "full": False, "image_bytes": 30, "label_bytes": 7}
    assert raw_case(tmp_path).provenance((4.0, 3.0, 3.0)) == wanted | {"spacing_mm": [4.0, 3.0, 3.0]}


def test_provenance_of_a_series_counts_its_slices_and_names_its_uids(tmp_path: Path) -> None:
    case = raw_case(tmp_path, slices=(tmp_path / "1", tmp_path / "2"), uids={"series_uid": "1.2"})
    facts = case.provenance((4.0, 3.0, 3.0))
    assert (facts["slices"], facts["series_uid"]) == (2, "1.2") and "image_bytes" not in facts


def test_provenance_of_a_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    case = raw_case(tmp_path)
    case.label.unlink()
    with pytest.raises(OSError, match="a-seg.nrrd"):
        case.provenance((4.0, 3.0, 3.0))
