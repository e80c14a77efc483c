"""The benchmark of sparse deconvolution, at the size of a test."""

import pytest
import torch

from benchmarks.deconvolution import GAP, grid_lasso, main, problem
from regimes.meanfield.spikes.dual import certify_spikes
from regimes.meanfield.spikes.sliding import sliding_frank_wolfe

pytestmark = pytest.mark.slow


def test_the_gap_of_a_grid_falls_with_its_spacing_and_stays_above_the_goal():
    pytest.importorskip("celer")
    risk = problem(1, 100)
    *_, (_, best) = sliding_frank_wolfe(risk)
    certificates = [certify_spikes(risk, grid_lasso(points)(risk)) for points in (64, 256)]
    gaps = [float(certificate.gap) for certificate in certificates]
    assert gaps[0] > 4 * gaps[1] > 4e3 * GAP  # a sixteenth for a quarter of the spacing, where spikes fall alike
    for certificate in certificates:
        assert float(certificate.value) >= float(best.lower)
        assert float(certificate.lower) <= float(best.value)


def test_the_benchmark_tells_seconds_gaps_and_a_ratio(capsys):
    threads = torch.get_num_threads()
    main(["--dim", "1", "--trials", "1", "--repeats", "1", "--iterations", "200"])
    torch.set_num_threads(threads)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("sliding Frank-Wolfe") and "1 of 1" in line for line in lines)
    assert any(line.startswith("particles, m = 20") and "0 of 1" in line for line in lines)
    assert lines[-2].startswith("ratio: ")
