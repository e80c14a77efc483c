"""The figure of several seeds."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch.testing import assert_close

from regimes.lab import seeds_figure
from regimes.lab.figures import PALETTE
from regimes.lab.intervals import Interval

NONE = dict.fromkeys(["running_accuracy", "validation_risk", "validation_accuracy", "energy", "multiplier"])


def run(seed, epochs=4, **columns):
    """Risk (1 + seed)/epoch, and the given columns."""
    return [
        {
            "epoch": epoch,
            "running_risk": (1 + seed) / epoch,
            **NONE,
            **{name: of(epoch) for name, of in columns.items()},
        }
        for epoch in range(1, epochs + 1)
    ]


def thick(axes):
    return [line for line in axes.get_lines() if line.get_linewidth() == 2.0]


def test_the_thick_line_is_the_mean_over_the_seeds_and_the_thin_ones_are_the_seeds():
    made = seeds_figure.draw([run(seed) for seed in range(3)])
    (axes,) = [each for each in made.axes if each.axison]
    (line,) = thick(axes)
    assert_close(list(line.get_ydata()), [2.0, 1.0, 2 / 3, 0.5])
    thin = [list(each.get_ydata()) for each in axes.get_lines() if each is not line]
    assert_close(thin, [[(1 + seed) / epoch for epoch in range(1, 5)] for seed in range(3)])
    assert axes.collections  # the band
    assert axes.get_yscale() == "log"


def test_two_seeds_have_no_band_and_it_is_said():
    made = seeds_figure.draw([run(0), run(1)])
    assert not made.axes[0].collections
    assert "no bands: the intervals of two say nothing" in made._supxlabel.get_text().replace("\n", " ")


def test_there_is_a_panel_for_each_number_that_the_runs_have():
    full = {"validation_risk": lambda epoch: 2 / epoch, "running_accuracy": lambda epoch: 1 - 0.5 / epoch,
            "validation_accuracy": lambda epoch: 1 - 0.6 / epoch, "energy": lambda epoch: 3.0 * epoch,
            "multiplier": lambda epoch: 10.0 + epoch}  # fmt: skip
    made = seeds_figure.draw([run(seed, **full) for seed in range(3)])
    assert [each.get_ylabel() for each in made.axes] == [panel.label for panel in seeds_figure.PANELS]
    assert [line.get_color() for line in thick(made.axes[0])] == list(PALETTE[:2])
    assert [line.get_label() for line in thick(made.axes[1])] == ["training", "validation"]


def test_the_mean_is_over_epochs_that_all_seeds_have_measured():
    sparse = run(1, validation_risk=lambda epoch: None if epoch % 2 else 5.0)
    found = seeds_figure.means(
        [run(0, validation_risk=lambda epoch: 1.0), sparse], "validation_risk", Interval(0.0, 10.0)
    )
    assert list(found) == [2, 4]
    assert found[2].value == pytest.approx(3.0)


def test_a_risk_of_zero_has_no_logarithm():
    runs = [run(seed) for seed in range(3)]
    runs[0][3]["running_risk"] = 0.0
    assert seeds_figure.draw(runs).axes[0].get_yscale() == "linear"


def test_a_logarithmic_axis_over_less_than_a_decade_has_plain_numbers():
    made = seeds_figure.draw([run(seed) for seed in range(3)])
    FigureCanvasAgg(made).draw()
    shown = [label.get_text() for label in made.axes[0].get_yticklabels()]
    assert "0.5" in shown
