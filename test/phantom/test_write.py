"""The files of a synthetic case: names, what each holds, and in which order they appear."""

import json

import numpy as np
import pytest

from lnq.image.itk import read_volume
from lnq.image.volume import Volume, make_affine
from phantom import write
from phantom.annotate import HURRIED

GRID = ((8.0, 4.0, 4.0), (34, 96, 96))


@pytest.fixture
def drawn(venous, monkeypatch):
    """What the phantom was asked for: one that is drawn already is written."""
    asked = []

    def make_phantom(*request):
        asked.append(request)
        return venous

    monkeypatch.setattr(write, "make_phantom", make_phantom)
    return asked


@pytest.mark.parametrize(("split", "full"), [("train", False), ("val", True), ("test", True)])
def test_only_training_cases_are_annotated_in_part(tmp_path, drawn, venous, split, full):
    write.write_phantom(tmp_path, split, 12, 40, *GRID)
    base = tmp_path / f"lnq2023-{split}-0012"
    ct, label, nodes = (read_volume(f"{base}{end}.nrrd").array for end in ("-ct", "-seg", "-nodes"))
    np.testing.assert_array_equal(ct, venous.ct.array)
    np.testing.assert_array_equal(nodes, venous.nodes.array)
    np.testing.assert_array_equal(label, venous.nodes.array > 0 if full else venous.partial.array)
    assert drawn == [(40, *GRID, None, HURRIED, "usual")]


def test_facts_tell_how_to_make_the_phantom_again(tmp_path):
    write.write_phantom(tmp_path, "train", 1, 41, *GRID, phase="venous", full=True)
    facts = json.loads((tmp_path / "lnq2023-train-0001-info.json").read_text())
    assert (facts["full"], facts["seed"], facts["phase"], facts["spacing_mm"]) == (True, 41, "venous", [8.0, 4.0, 4.0])
    labels = read_volume(tmp_path / "lnq2023-train-0001-nodes.nrrd")
    volumes = [(labels.array == node["label"]).sum() * 128.0 for node in facts["nodes"]]  # a voxel has 8 x 4 x 4 mm
    assert [node["volume_mm3"] for node in facts["nodes"]] == pytest.approx(volumes)


def test_a_case_has_its_ct_last(tmp_path, monkeypatch):
    volume = Volume(np.zeros((2, 3, 4), np.uint8), make_affine((1.0, 1.0, 1.0)))

    def fail_at_ct(_volume, path):
        if "-ct" in path.name:
            raise OSError("no space left")
        path.touch()

    monkeypatch.setattr(write, "write_volume", fail_at_ct)
    with pytest.raises(OSError, match="no space left"):
        write.write_case(tmp_path, "a", volume, volume, volume, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-info.json", "a-nodes.nrrd", "a-seg.nrrd"]
