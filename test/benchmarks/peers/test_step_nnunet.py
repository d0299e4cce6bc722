import pytest
import torch

from benchmarks.peers import step_nnunet


def test_without_nnunet_it_says_what_is_missing(tmp_path, capsys, monkeypatch):
    def missing(_features):
        raise ImportError("No module named 'dynamic_network_architectures'")

    monkeypatch.setattr(step_nnunet, "default_network", missing)
    assert step_nnunet.main(["-o", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "Error: No module named 'dynamic_network_architectures'\n"


@pytest.mark.slow
def test_a_step_of_nnunets_network_is_timed_and_counted():
    pytest.importorskip("nnunetv2")
    network = step_nnunet.default_network((4, 8))
    ms, tflop = step_nnunet.time_step(torch.device("cpu"), (16, 16, 16), 1, network)
    assert ms > 0
    # the first convolution alone: two samples, 3 x 3 x 3 of 1 channel to 4, two operations each, forward and weights
    assert tflop > 2 * 2 * 27 * 4 * 16**3 * 2 / 1e12
