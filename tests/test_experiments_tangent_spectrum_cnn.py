import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from regimes.conventions import generator
from regimes.data.classification import classification
from regimes.experiments.lazy import tangent_spectrum_cnn as cnn
from regimes.models.initialise import initialise, xavier
from regimes.models.vgg import vgg11
from regimes.streams import Classifier
from regimes.tangent.kernel import jacobian

TINY = cnn.Config(images=12, width=(1, 2))


def table(gap, slope, outputs=10, count=2000):
    """Three seeds of two widths; the gap and the slope hold for the larger one, the smaller one is flat."""
    rows = []
    for width in (4, 8):
        for seed in range(3):
            for i in [*range(1, 21), 30, 50, 100, 200, 500, 2000]:
                first = 1 - 0.01 * i - 0.001 * seed
                power = slope + 0.01 * (seed - 1)
                beyond = 0.9 / (gap + 0.1 * seed) * (i / (outputs + 1)) ** power * (1 if i <= 200 else 1e-3)
                value = (first if i <= outputs else beyond) if width == 8 else 1.0
                rows.append({"width": width, "seed": seed, "index": i, "eigenvalue": value})
    return pd.DataFrame(rows).assign(outputs=outputs, count=count)


def verdicts(rows):
    return {finding.quantity: finding.verdict for finding in cnn.judge(rows).findings}


def test_ten_large_ones_a_gap_and_a_tail_support_the_statement():
    judged = cnn.judge(table(10, -1))
    assert judged.verdict == "supported"
    assert judged.merits[f"{cnn.GAP}, width 8"] == pytest.approx(10.1, rel=0.01)
    assert judged.merits[f"{cnn.SLOPE}, width 8"] == pytest.approx(-1)  # what lies beyond a tenth does not count
    assert judged.merits[f"{cnn.GAP}, width 4"] == pytest.approx(1)


def test_the_slope_is_that_of_eigenvalue_against_number():
    assert cnn.judge(table(10, -1.4)).merits[f"{cnn.SLOPE}, width 8"] == pytest.approx(-1.4)


def test_the_figure_has_one_line_a_net_and_the_predicted_slope():
    (ax,) = cnn.draw(table(10, -1)).axes
    assert len(ax.get_lines()) == 2 * 3 + 2
    *_, predicted, _ = ax.get_lines()
    (x0, x1), (y0, y1) = predicted.get_data()
    assert (x0, x1) == (11, 2000)
    assert y0 / y1 == pytest.approx(2000 / 11)


@pytest.mark.parametrize(
    ("rows", "refuted"),
    [
        (table(1.5, -1), {cnn.GAP}),
        (table(100, -1), {cnn.GAP}),
        (table(10, -3), {cnn.SLOPE}),
        (table(10, -0.1), {cnn.SLOPE}),
    ],
)
def test_each_prediction_can_be_refuted(rows, refuted):
    assert {name for name, verdict in verdicts(rows).items() if verdict == "refuted"} == refuted


def test_a_gap_unlike_the_published_one_is_told():
    assert not cnn.judge(table(10, -1)).notes
    assert any("published gap" in note for note in cnn.judge(table(5, -1)).notes)


def test_a_tail_unlike_the_published_one_is_told_and_shown_beyond_what_is_judged():
    judged = cnn.judge(table(10, -1.2))
    assert [note for note in judged.notes if "published" in note] == [
        "The published tail, about 1/i, lies outside the measured interval."
    ]
    assert judged.merits["the same slope up to nine tenths of all, width 8"] < -2  # 500 is a thousand times less


def test_the_table_holds_the_eigenvalues_around_the_gap():
    lines = cnn.table(table(10, -1)).set_index("width")
    assert lines.loc[8, "λ_10/λ_1"] / lines.loc[8, "λ_11/λ_1"] == pytest.approx(10.1, rel=0.01)


def test_eigenvalues_are_squared_singular_values_of_the_jacobian():
    (rows,) = cnn.measure(TINY, [{"width": 2, "seed": 1}])
    data = classification("digits", train_size=12, test_size=1, seed=1).to(dtype=torch.float64)
    net = initialise(vgg11(data.shape, 10, width=2), xavier, generator=generator(1, Classifier.WEIGHTS)).double()
    whole = torch.cat([part.flatten(2) for part in jacobian(net, data.normalise(data.train.x)).values()], dim=2)
    singular = torch.linalg.svdvals(whole.flatten(0, 1)).square()
    assert rows[0] == {"index": 1, "eigenvalue": 1.0, "outputs": 10, "count": 120}
    for row in rows:
        expected = singular[row["index"] - 1] / singular[0]
        assert_close(row["eigenvalue"], float(expected), rtol=1e-6, atol=1e-12)  # eigh is exact to 1e-16 of the largest
    assert [row["index"] for row in rows[:20]] == list(range(1, 21))
