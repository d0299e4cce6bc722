import time

import pytest

from benchmarks import on_gpu
from benchmarks.on_gpu import Part, parts, session

HEAD = ["# Head", ""]


def test_a_part_that_fails_or_takes_too_long_ends_alone(tmp_path):
    wanted = [
        Part("good", ("-c", "print('said')"), 30),
        Part("bad", ("-c", "raise SystemExit('no kernel image')"), 30),
        Part("slow", ("-c", "import time; time.sleep(60)"), 0.5),
        Part("after", ("-c", "pass"), 30, ("good",)),
        Part("lost", ("-c", "pass"), 30, ("good", "slow")),
    ]
    begun = time.monotonic()
    ended = session(wanted, tmp_path, 5, HEAD)
    assert time.monotonic() - begun < 50
    assert [(e.name, e.outcome) for e in ended] == [
        ("good", "done"),
        ("bad", "exit status 1, see bad.log"),
        ("slow", "stopped after 0 s, see slow.log"),
        ("after", "done"),
        ("lost", "not begun: without slow"),
    ]
    assert (tmp_path / "good.log").read_text() == "said\n"
    assert (tmp_path / "bad.log").read_text() == "no kernel image\n"
    written = (tmp_path / "session.md").read_text()
    assert written.startswith("# Head\n") and "| lost | not begun: without slow | 0 |" in written


def test_nothing_is_begun_when_the_time_is_over(tmp_path):
    ended = session([Part("late", ("-c", "raise SystemExit(1)"), 30)], tmp_path, 0.01, HEAD)
    assert [e.outcome for e in ended] == ["not begun: no time left"]
    assert not (tmp_path / "late.log").exists()


@pytest.mark.parametrize("in_small", [False, True])
def test_every_part_is_a_module_that_is_there_and_needs_earlier_ones(tmp_path, in_small):
    seen = []
    for part in parts(tmp_path, in_small):
        assert set(part.needs) <= set(seen)
        seen.append(part.name)
        if part.command[0] == "-m" and part.command[1] not in ("pytest", "phantom"):
            assert (on_gpu.ROOT / f"{part.command[1].replace('.', '/')}.py").is_file()


def test_all_tests_that_need_a_gpu_are_run():
    marker = "@pytest.mark." + "gpu"
    files = [path for path in (on_gpu.ROOT / "test").rglob("test_*.py") if marker in path.read_text()]
    marked = {str(path.relative_to(on_gpu.ROOT)) for path in files}
    assert marked == set(on_gpu.GPU_TESTS)


def test_without_a_gpu_it_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(on_gpu.torch.cuda, "is_available", lambda: False)
    assert on_gpu.main(["-o", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == "Error: there is no GPU that PyTorch can use\n"
    assert not (tmp_path / "out").exists()


def test_some_parts_run_in_small_on_a_processor(tmp_path, capsys):
    assert on_gpu.main(["--try", "-o", str(tmp_path), "--only", "facts"]) == 0
    assert (tmp_path / "facts.log").read_text().startswith("torch ")
    with pytest.raises(SystemExit):
        on_gpu.main(["--try", "-o", str(tmp_path), "--only", "nothing"])
    assert "not nothing" in capsys.readouterr().err


@pytest.mark.slow
def test_all_parts_run_in_small_on_a_processor(tmp_path):
    pytest.importorskip("nnunetv2")
    pytest.importorskip("monai")
    assert on_gpu.main(["--try", "--minutes", "40", "-o", str(tmp_path)]) == 0
