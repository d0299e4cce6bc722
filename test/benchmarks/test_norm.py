import csv

import pytest
import torch

from benchmarks import norm
from training.config import TINY


def test_levels_are_the_feature_maps_of_the_network():
    assert norm.levels(TINY) == [(2, 4, 8, 16, 16), (2, 8, 8, 8, 8), (2, 8, 4, 4, 4)]


def test_all_ways_compute_the_same():
    torch.manual_seed(0)
    x = torch.randn(2, 4, 3, 5, 6)
    results = {name: way(x) for name, (way, _) in norm.contenders(4, torch.device("cpu")).items() if "comp" not in name}
    assert len(results) == 4
    for result in results.values():
        torch.testing.assert_close(result, results["PyTorch, channels first"], rtol=1e-4, atol=1e-5)


def test_a_row_per_way_and_a_column_per_level(tmp_path, monkeypatch):
    def broken(*_, **__):
        def run(_x):
            raise RuntimeError("no compiler\nat all")

        return run

    monkeypatch.setattr(torch, "compile", broken)
    assert norm.main(["-o", str(tmp_path), "--preset", "tiny", "--repeats", "1"]) == 0
    with open(tmp_path / "norm-tiny.csv") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["norm", "2 x 4 x 8 x 16 x 16", "2 x 8 x 8 x 8 x 8", "2 x 8 x 4 x 4 x 4"]
    assert len(rows) == 6 and rows[5][1:] == ["no compiler"] * 3
    assert all(float(cell) > 0 for row in rows[1:5] for cell in row[1:])


def test_repeats_are_at_least_one(tmp_path, capsys):
    assert norm.main(["-o", str(tmp_path), "--repeats", "0"]) == 2
    assert capsys.readouterr().err == "Error: --repeats must be at least 1, not 0\n"


@pytest.mark.slow
def test_the_compiled_formula_computes_the_same():
    torch.manual_seed(0)
    x = torch.randn(2, 4, 3, 5, 6)
    ways = norm.contenders(4, torch.device("cpu"))
    wanted = ways["PyTorch, channels first"][0](x)
    torch.testing.assert_close(ways["compiled formula, channels last"][0](x), wanted, rtol=1e-4, atol=1e-5)
