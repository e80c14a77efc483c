import pytest

from regimes.tangent.verdict import Measured, Thresholds, judge_laziness

SMALL, LARGE = Measured(0.01, 0.008, 0.012), Measured(0.6, 0.5, 0.7)


def test_a_run_with_all_numbers_below_their_thresholds_is_lazy():
    judged = judge_laziness({"tangent_distance": SMALL, "kernel_drift": SMALL, "activation_flips": SMALL})
    assert judged.verdict == "lazy"
    assert judged.deciding in ("tangent_distance", "activation_flips")  # the threshold of the drift is larger
    assert judged.words.startswith("lazy: ")


def test_a_kernel_that_drifts_does_not_decide_by_itself():
    judged = judge_laziness({"tangent_distance": SMALL, "kernel_drift": LARGE})
    assert judged.verdict == "undecided"
    assert (judged.deciding, judged.threshold) == ("kernel_drift", Thresholds().kernel_drift)
    assert judged.words.startswith("undecided: kernel drift 0.6 [0.5, 0.7] is above 0.2, which alone is no proof")
    assert judged.words.endswith("the tangent distance is 0.01 [0.008, 0.012]")


def test_a_tangent_model_that_is_left_is_enough_for_not_lazy():
    judged = judge_laziness({"tangent_distance": LARGE, "kernel_drift": SMALL})
    assert judged.verdict == "not lazy"
    assert judged.words == "not lazy: tangent distance 0.6 [0.5, 0.7] is above 0.1"


def test_the_distance_decides_that_a_run_is_not_lazy_however_far_the_kernel_has_drifted():
    judged = judge_laziness({"tangent_distance": LARGE, "kernel_drift": Measured(9.0, 8.0, 10.0)})
    assert judged.deciding == "tangent_distance"
    assert judged.words == "not lazy: tangent distance 0.6 [0.5, 0.7] is above 0.1"


def test_of_a_lazy_run_the_number_nearest_to_its_threshold_is_told():
    judged = judge_laziness({"tangent_distance": SMALL, "kernel_drift": Measured(0.19, 0.18, 0.195)})
    assert (judged.verdict, judged.deciding) == ("lazy", "kernel_drift")


def test_an_interval_across_the_threshold_leaves_it_open():
    judged = judge_laziness({"tangent_distance": Measured(0.1, 0.05, 0.15), "kernel_drift": SMALL})
    assert judged.verdict == "undecided"
    assert "straddles the threshold 0.1" in judged.words


@pytest.mark.parametrize(("value", "verdict"), [(0.095, "lazy"), (0.105, "not lazy")])
def test_an_effect_below_ten_integration_errors_decides_nothing(value, verdict):
    sharp, blurred = (Measured(value, value, value, error) for error in (1e-4, 1e-3))
    assert judge_laziness({"tangent_distance": sharp}).verdict == verdict
    judged = judge_laziness({"tangent_distance": blurred})
    assert judged.verdict == "undecided"
    assert "within ten integration errors" in judged.words


def test_thresholds_can_be_given():
    strict = Thresholds(tangent_distance=0.001)
    assert judge_laziness({"tangent_distance": SMALL}, strict).verdict == "not lazy"


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"kernel_drift": SMALL}, "needs tangent_distance"),
        ({"tangent_distance": SMALL, "weight_motion": SMALL}, "knows the numbers .* got also weight_motion"),
        ({"tangent_distance": Measured(1.0, 2.0, 3.0)}, "low <= value <= high"),
        ({"tangent_distance": Measured(float("nan"), 0.0, 1.0)}, "low <= value <= high"),
        ({"tangent_distance": Measured(1.0, 1.0, 1.0, -1.0)}, "error >= 0"),
    ],
)
def test_numbers_that_say_nothing_are_refused(numbers, message):
    with pytest.raises(ValueError, match=message):
        judge_laziness(numbers)
