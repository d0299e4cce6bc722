"""The caption of a result."""

from benchmarks.machine import caption


def test_the_command_can_be_copied_and_the_device_comes_first():
    versions = {"torch": "2.13.0", "monai": "1.5"}
    lines = caption("benchmarks.gpu", ["--bundles", "my model", "-o", "out"], versions, "H200")
    assert lines[:3] == ["```", "python -m benchmarks.gpu --bundles 'my model' -o out", "```"]
    assert lines[4].startswith("H200; ")
    assert lines[4].endswith("; torch 2.13.0, monai 1.5.")


def test_arguments_of_this_process_are_the_default(monkeypatch):
    monkeypatch.setattr("sys.argv", ["compare.py", "--repeats", "2"])
    assert caption("benchmarks.compare", None, {})[1] == "python -m benchmarks.compare --repeats 2"
