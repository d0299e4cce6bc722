import json
import signal

import pytest

from lnq.challenge import container
from lnq.challenge.container import find_inputs, input_folder, run_container
from lnq.errors import StartError
from lnq.image.itk import write_volume
from lnq.inference.backends import load_model
from lnq.signals import signals_go_to


@pytest.mark.parametrize(("header", "voxels"), [("a.mhd", "a.zraw"), ("a.nhdr", "a.raw.gz"), ("a.b.nhdr", "a.b.raw")])
def test_header_and_voxel_file_are_one_input(tmp_path, header, voxels):
    for name in (header, voxels, "other.raw.gz", ".hidden.mha"):
        (tmp_path / name).write_bytes(b"\0")
    assert [c.path.name for c in find_inputs(tmp_path)] == [header, "other.raw.gz"]


def write_sockets(folder, sockets, key="socket"):
    """As the platform writes /input/inputs.json, with what else it holds."""
    values = [
        {key: {"slug": slug, "relative_path": path, "kind": "Image"}, "image": {"name": "ct.mha"}, "file": None}
        for slug, path in sockets
    ]
    (folder / "inputs.json").write_text(json.dumps(values))


@pytest.mark.parametrize("key", ["socket", "interface"])
def test_ct_lies_at_its_socket(tmp_path, key):
    write_sockets(tmp_path, [("age", "age.json"), ("mediastinal-ct", "images/elsewhere")], key)
    assert input_folder(tmp_path) == tmp_path / "images" / "elsewhere"


def test_ct_lies_in_the_usual_place_without_a_list_of_sockets(tmp_path):
    assert input_folder(tmp_path) == tmp_path / "images" / "mediastinal-ct"


@pytest.mark.parametrize(
    ("sockets", "sentence"),
    [
        ([("age", "age.json"), ("ct", "images/ct")], "{} has no socket mediastinal-ct, only age, ct"),
        ([], "{} has no socket mediastinal-ct, only none"),
        ([("mediastinal-ct", "../etc")], "{} sends socket mediastinal-ct out of {parent}, to ../etc"),
        ([("mediastinal-ct", "/etc")], "{} sends socket mediastinal-ct out of {parent}, to /etc"),
        (
            [("mediastinal-ct", None)],
            "{} is not a list of sockets with slug and relative_path: "
            "TypeError('expected str, bytes or os.PathLike object, not NoneType')",
        ),
    ],
)
def test_list_of_sockets_that_does_not_fit_is_refused(tmp_path, sockets, sentence):
    write_sockets(tmp_path, sockets)
    with pytest.raises(StartError) as error:
        input_folder(tmp_path)
    assert str(error.value) == sentence.format(tmp_path / "inputs.json", parent=tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '[{"socket": 1}]', '[{"socket": {"slug": "x"}}]', "\xff"])
def test_damaged_list_of_sockets_is_refused_and_results_say_so(tmp_path, text):
    (tmp_path / "inputs.json").write_text(text, encoding="latin-1")
    with pytest.raises(StartError, match="inputs.json is not a list of sockets with slug and relative_path: ") as error:
        run_container(lambda: pytest.fail("not to be loaded"), tmp_path, tmp_path / "out")
    assert "\n" not in str(error.value)
    [entry] = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (entry["inputs"], entry["outputs"], entry["error_messages"]) == ([], [], [str(error.value)])


class Told(BaseException):
    """A signal came."""


def stop(*_):
    raise Told


@pytest.mark.parametrize("at", ["LymphNodeAlgorithm.load", "LymphNodeAlgorithm.process", "Versions.of"])
def test_a_signal_before_the_first_ct_leaves_all_named(tmp_path, thorax, tiny_bundle, monkeypatch, at):
    folder, out = tmp_path / "images" / "mediastinal-ct", tmp_path / "out"
    folder.mkdir(parents=True)
    for name in "ab":
        write_volume(thorax, folder / f"{name}.mha")
    monkeypatch.setattr(f"lnq.challenge.container.{at}", stop)
    with pytest.raises(Told):
        run_container(lambda: load_model(tiny_bundle, device="cpu"), tmp_path, out)
    results = json.loads((out / "results.json").read_text())
    assert [one["inputs"][0]["filename"] for one in results] == ["a.mha", "b.mha"]
    assert all(len(one["error_messages"]) == 1 and not one["outputs"] for one in results)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_signal_as_a_mask_is_written_leaves_that_mask_named(tmp_path, thorax, tiny_bundle, monkeypatch, when):
    def write_and_signal(mask, path):
        if when == "before":
            signal.raise_signal(signal.SIGTERM)
        write_volume(mask, path)
        if when == "after":
            signal.raise_signal(signal.SIGTERM)

    folder, out = tmp_path / "images" / "mediastinal-ct", tmp_path / "out"
    folder.mkdir(parents=True)
    for name in "ab":
        write_volume(thorax, folder / f"{name}.mha")
    monkeypatch.setattr(container, "write_volume", write_and_signal)
    with signals_go_to(stop), pytest.raises(Told):
        run_container(lambda: load_model(tiny_bundle, device="cpu"), tmp_path, out)
    first, second = json.loads((out / "results.json").read_text())
    assert [p.name for p in out.rglob("*.mha")] == [o["filename"] for o in first["outputs"]] == ["a.mha"]
    assert (first["error_messages"], second["outputs"]) == ([], [])
    assert second["error_messages"] == ["Stopped before this CT was segmented"]
