"""The built image `lnq`, run as the platform runs it and narrower: `make container-check` builds it and runs these."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.bad_files import BAD_FILES
from helpers.paths import ROOT
from helpers.unusual_files import UNUSUAL

from lnq.image.itk import write_volume

pytestmark = pytest.mark.container
SLUG = "mediastinal-ct"
MASKS = "images/mediastinal-lymph-node-segmentation"
PLATFORM = (
    *("--network=none", "--cap-drop=ALL", "--security-opt=no-new-privileges"),
    *("--memory=4g", "--memory-swap=4g", "--shm-size=128m", "--pids-limit=256"),
)
NARROW = (  # a random user, a read-only root with a small /tmp, one CPU, 7 GB of address space that can be written
    *("--user=12345:12345", "--read-only", "--tmpfs=/tmp:rw,size=64m", "--cpus=1"),
    *("--ulimit=data=7516192768", "--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096"),
)


class Container:
    """Runs the image on `input`; what it wrote is in `output`."""

    def __init__(self, folder: Path) -> None:
        self.input, self.output = folder / "input", folder / "output"
        self.cts = self.input / "images" / SLUG
        self.cts.mkdir(parents=True)
        self.name = f"lnq-test-{time.time_ns()}"

    def command(self, *options: str, run: str = "exec") -> list[str]:
        self.output.mkdir(exist_ok=True)
        self.output.chmod(0o777)
        volumes = (f"--volume={self.input}:/input:ro", f"--volume={self.output}:/output")
        return [
            "docker",
            "run",
            "--rm",
            f"--name={self.name}",
            *PLATFORM,
            *NARROW,
            *volumes,
            *options,
            "lnq",
            *run.split(),
        ]

    def run(self, *options: str) -> tuple[int, list[str]]:
        """Status and lines of stderr."""
        run = subprocess.run(self.command(*options), capture_output=True, text=True, timeout=300)
        return run.returncode, run.stderr.strip().splitlines()

    def results(self) -> dict[str, dict]:
        """By the input's name."""
        entries = json.loads((self.output / "results.json").read_text())
        return {entry["inputs"][0]["filename"]: entry for entry in entries}

    def written(self) -> list[str]:
        return sorted(str(p.relative_to(self.output)) for p in self.output.rglob("*") if p.is_file())


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Container]:
    if subprocess.run(["docker", "image", "inspect", "lnq"], capture_output=True).returncode:
        pytest.fail("There is no image lnq: run make container-check")
    container = Container(tmp_path)
    yield container
    subprocess.run(["docker", "rm", "--force", container.name], capture_output=True)


def test_sample_is_segmented_as_expected_without_a_shell(container, tmp_path):
    shutil.copytree(ROOT / "test" / "input", container.input, dirs_exist_ok=True)
    empty = tmp_path / "no-shell"
    empty.touch()
    shells = (f"--volume={empty}:/usr/bin/{shell}:ro" for shell in ("dash", "bash"))
    status, lines = container.run(*shells)
    assert (status, lines[-1]) == (0, "All done: masks and results.json are in /output")
    assert container.written() == [f"{MASKS}/phantom-8000.mha", "results.json"]
    compare = ["python3", ROOT / "test" / "check_output.py", container.output, ROOT / "test" / "expected"]
    subprocess.run(compare, check=True, env={"PYTHONPATH": str(ROOT), "PATH": str(ROOT / ".venv" / "bin")})


def test_sample_is_found_at_its_socket(container):
    place = container.input / "images" / "elsewhere"
    shutil.copytree(ROOT / "test" / "input" / "images" / SLUG, place)
    socket = {"socket": {"slug": SLUG, "relative_path": "images/elsewhere"}, "image": {"name": "phantom-8000.mha"}}
    (container.input / "inputs.json").write_text(json.dumps([socket]))
    assert container.run()[0] == 0
    assert container.written() == [f"{MASKS}/phantom-8000.mha", "results.json"]


def test_refused_inputs_are_named_and_the_sound_one_is_segmented(container, thorax):
    for name, write, _ in BAD_FILES:
        write(thorax, container.cts / name)
    write_volume(thorax, container.cts / "sound.mha")
    status, lines = container.run()
    assert status == 1
    assert lines[-1].startswith(f"{len(BAD_FILES)} cases failed, the first: ")
    results = container.results()
    for name, _, sentence in BAD_FILES:
        [error] = results[name]["error_messages"]
        assert error.startswith(sentence) and "\n" not in error and results[name]["outputs"] == []
    assert results["sound.mha"]["error_messages"] == []
    assert container.written() == [f"{MASKS}/sound.mha", "results.json"]


@pytest.mark.parametrize(("name", "write", "sentence"), [b for b in BAD_FILES if b[0] in ("cut.mha", "nan.mha")])
def test_last_line_explains_a_single_refused_input(container, thorax, name, write, sentence):
    write(thorax, container.cts / name)
    status, lines = container.run()
    assert status == 1 and lines[-1].startswith(sentence)
    assert container.written() == ["results.json"]


def test_unusual_inputs_are_segmented_with_their_warnings(container, make_thorax):
    for name, (make, _) in UNUSUAL.items():
        write_volume(make(make_thorax), container.cts / f"{name}.mha")
    assert container.run()[0] == 0
    for name, (_, start) in UNUSUAL.items():
        entry = container.results()[f"{name}.mha"]
        assert entry["error_messages"] == [] and [w for w in entry["warnings"] if w.startswith(start)], entry
    assert container.written() == sorted([*(f"{MASKS}/{name}.mha" for name in UNUSUAL), "results.json"])


def test_nothing_to_segment_is_one_sentence(container):
    status, lines = container.run()
    sentence = "No CT found in /input/images/mediastinal-ct: one image file is needed there"
    assert (status, lines[-1]) == (2, sentence)
    [entry] = json.loads((container.output / "results.json").read_text())
    assert entry["error_messages"] == [sentence]


def test_a_mounted_bundle_wins_and_a_damaged_one_is_refused(container, thorax, tmp_path, tiny_bundle):
    write_volume(thorax, container.cts / "ct.mha")
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, bundle)
    (bundle / "model.onnx").write_bytes(b"no network")
    bundle.chmod(0o755)
    status, lines = container.run(f"--volume={bundle}:/opt/ml/model:ro")
    assert status == 2 and "model.onnx" in lines[-1] and len(lines[-1].splitlines()) == 1
    [entry] = container.results().values()
    assert entry["outputs"] == [] and entry["error_messages"] == [lines[-1]]


def test_sigterm_ends_it_with_true_results(container, thorax):
    for number in range(60):
        write_volume(thorax, container.cts / f"{number:02d}.mha")
    run = subprocess.Popen(container.command(), stderr=subprocess.PIPE, text=True)
    while not list(container.output.glob("images/*/*.mha")):  # results.json names all CTs from the start
        assert run.poll() is None
        time.sleep(0.1)
    subprocess.run(["docker", "kill", "--signal=TERM", container.name], check=True, capture_output=True)
    _, errors = run.communicate(timeout=60)
    assert (run.returncode, errors.splitlines()[-1]) == (143, "Stopped by a signal: finished cases are kept")
    done = [o["filename"] for entry in container.results().values() for o in entry["outputs"]]
    assert 0 < len(done) < 60
    assert container.written() == sorted([*(f"{MASKS}/{name}" for name in done), "results.json"])


@pytest.mark.parametrize("run", ["serve", ""])
def test_it_serves_two_cts_as_one_run_would_and_ends_by_sigterm(container, tmp_path, make_thorax, run):
    """By default too, as the image's label says."""
    written = {}
    for name, blood in (("a", 160), ("b", 40)):
        write_volume(make_thorax(blood_hu=blood), container.cts / f"{name}.mha")
        assert container.run()[0] == 0
        written[name] = {path: (container.output / path).read_bytes() for path in container.written()}
        empty(container.output)
        shutil.move(container.cts / f"{name}.mha", tmp_path)
    process = subprocess.Popen(container.command(run=run), stderr=subprocess.PIPE, text=True)
    try:
        for name in ("a", "b", "a"):
            shutil.copy(tmp_path / f"{name}.mha", container.cts)
            code = (ROOT / "test" / "invoke.py").read_text()
            call = ["docker", "exec", "--interactive", container.name, "python", "-"]
            for _ in range(100):
                done = subprocess.run(call, input=code, capture_output=True, text=True, timeout=400)
                if done.returncode != 125 and "no container" not in done.stderr.lower():
                    break
                time.sleep(0.1)  # it is not there yet
            assert done.returncode == 0, done.stderr
            assert {path: (container.output / path).read_bytes() for path in container.written()} == written[name]
            empty(container.output)
            (container.cts / f"{name}.mha").unlink()
    finally:
        begun = time.monotonic()
        subprocess.run(["docker", "kill", "--signal=TERM", container.name], check=True, capture_output=True)
        _, errors = process.communicate(timeout=60)
    assert time.monotonic() - begun < 5
    assert (process.returncode, errors.splitlines()[-1]) == (143, "Stopped by a signal: finished cases are kept")


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
