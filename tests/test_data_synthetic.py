import math

import pytest
import torch
from sklearn.datasets import make_circles
from torch.testing import assert_close

from regimes.conventions import generator
from regimes.data.dataset import class_targets, classification_error
from regimes.data.synthetic import circles, gaussian_inputs, sphere, teacher_student
from regimes.data.teacher import Teacher, random_teacher


def test_points_of_the_sphere_have_norm_one_in_both_precisions():
    assert_close(sphere(50, 7, generator=generator(0)).norm(dim=1), torch.ones(50, dtype=torch.float64))
    single = sphere(50, 7, generator=generator(0), dtype=torch.float32)
    assert_close(single, sphere(50, 7, generator=generator(0)).float())


def test_points_of_the_sphere_have_mean_zero_and_covariance_identity_over_d():
    n, d = 20_000, 5
    x = sphere(n, d, generator=generator(1))
    entries = torch.cat([x, x[:, :, None].mul(x[:, None]).flatten(1) - torch.eye(d).flatten() / d], dim=1)
    error = entries.std(0) / math.sqrt(n)
    assert (entries.mean(0).abs() < 5 * error).all()


def test_gaussian_inputs_have_unit_variance():
    x = gaussian_inputs(20_000, 3, generator=generator(2))
    squares = x.square() - 1
    assert (squares.mean(0).abs() < 5 * squares.std(0) / math.sqrt(len(x))).all()


def test_noiseless_circles_are_the_points_of_scikit_learn():
    x, labels = circles(101, noise=0.0, factor=0.4, generator=generator(3))
    theirs, their_labels = make_circles(101, factor=0.4, shuffle=False)
    for label in (0, 1):
        ours = x[labels == label]
        expected = torch.from_numpy(theirs[their_labels == label])
        assert ours.shape == expected.shape
        assert_close(
            torch.cdist(ours, expected).min(0).values, torch.zeros(len(expected)).double(), atol=1e-7, rtol=0
        )  # cdist takes a root of a rounding error


def test_noise_on_circles_has_the_deviation_asked_for():
    clean, _ = circles(20_000, noise=0.0, generator=generator(4))
    noisy, _ = circles(20_000, noise=0.1, generator=generator(4))
    squares = (noisy - clean).square().flatten()
    assert abs(squares.mean() - 0.01) < 5 * squares.std() / math.sqrt(len(squares))


@pytest.mark.parametrize("options", [{"factor": 1.0}, {"factor": -0.1}, {"noise": -1.0}])
def test_circles_of_impossible_shape_are_refused(options):
    with pytest.raises(ValueError, match=r"circles needs (factor|noise)"):
        circles(10, generator=generator(0), **options)


def test_a_teacher_is_the_plain_sum_of_its_neurons():
    teacher = Teacher(torch.tensor([[1.0], [-2.0]]), torch.tensor([[1.0, 0.0], [0.0, 3.0]]))
    x = torch.tensor([[2.0, 1.0], [-1.0, 1.0]])
    assert_close(teacher(x), torch.tensor([[2.0 - 6.0], [-6.0]]))
    assert_close(teacher.particles, torch.tensor([[1.0, 0.0], [0.0, 6.0]]))


def test_random_teachers_have_neurons_of_the_asked_magnitude_and_both_signs():
    teacher = random_teacher(6, 40, generator=generator(5), magnitude=100.0)
    assert_close(teacher.input.norm(dim=1), torch.ones(40, dtype=torch.float64))
    assert_close(teacher.output.abs(), torch.full((40, 1), 100.0, dtype=torch.float64))
    assert 5 < int((teacher.output > 0).sum()) < 35
    assert (
        float(random_teacher(6, 1, generator=generator(5), magnitude=0.1).output.abs()) == 0.1
    )  # not rounded to float32


def test_the_mean_square_of_a_teacher_on_the_sphere_is_the_closed_form():
    n, d = 40_000, 8
    teacher = random_teacher(d, 3, generator=generator(6))
    squares = teacher(sphere(n, d, generator=generator(7))).square()[:, 0]
    a, angle = teacher.output, (teacher.input @ teacher.input.T).clamp(-1, 1).arccos()
    kernel = (angle.sin() + (math.pi - angle) * angle.cos()) / (2 * math.pi * d)
    assert abs(squares.mean() - (a.T @ kernel @ a).item()) < 5 * squares.std() / math.sqrt(n)


def test_training_data_do_not_depend_on_the_number_of_test_samples():
    few = teacher_student(9, 1, inputs=4, generator=generator(8))
    many = teacher_student(9, 100, inputs=4, generator=generator(8))
    assert torch.equal(few.x_train, many.x_train)
    assert torch.equal(few.y_train, many.y_train)


def test_targets_are_the_teachers_values_and_a_teacher_can_be_given():
    drawn = teacher_student(9, 5, inputs=4, generator=generator(9))
    assert drawn.teacher is not None
    assert_close(drawn.y_test, drawn.teacher(drawn.x_test))
    again = teacher_student(9, 5, inputs=4, generator=generator(10), teacher=drawn.teacher, draw=gaussian_inputs)
    assert_close(again.y_train, drawn.teacher(again.x_train))
    assert again.x_train.norm(dim=1).std() > 0.1


def test_single_precision_rounds_the_data_of_double_precision():
    double = teacher_student(9, 5, inputs=4, generator=generator(11))
    single = teacher_student(9, 5, inputs=4, generator=generator(11), dtype=torch.float32)
    assert_close(single.y_train, double.y_train.float(), atol=1e-6, rtol=1e-5)  # float32 arithmetic in the teacher


@pytest.mark.parametrize(
    "call",
    [
        lambda g: sphere(0, 2, generator=g),
        lambda g: gaussian_inputs(3, 0, generator=g),
        lambda g: random_teacher(0, 3, generator=g),
        lambda g: teacher_student(0, 3, inputs=2, generator=g),
    ],
)
def test_sizes_below_one_are_refused(call):
    with pytest.raises(ValueError, match="as a whole number, at least 1; got 0"):
        call(generator(0))


def test_two_classes_are_minus_and_plus_one_and_more_are_one_hot():
    assert class_targets(torch.tensor([0, 1, 1]), 2).tolist() == [[-1.0], [1.0], [1.0]]
    for dtype in (torch.uint8, torch.int8, torch.int32):
        assert class_targets(torch.tensor([0, 1], dtype=dtype), 2).tolist() == [[-1.0], [1.0]]
    assert class_targets(torch.tensor([2, 0]), 3).tolist() == [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    with pytest.raises(ValueError, match="at least two classes"):
        class_targets(torch.tensor([0]), 1)
    with pytest.raises(ValueError, match=r"labels in 0\.\.2; got 0\.\.3"):
        class_targets(torch.tensor([0, 3]), 3)


def test_the_error_is_the_share_of_wrong_classes_for_each_run():
    two = torch.tensor([[-1.0], [1.0], [1.0], [-1.0]])
    assert_close(classification_error(torch.tensor([[0.2], [3.0], [0.1], [-2.0]]), two), torch.tensor(0.25))
    three = class_targets(torch.tensor([0, 1, 2, 2]), 3)
    outputs = torch.stack([three, three.roll(1, dims=1)])
    assert_close(classification_error(outputs, three), torch.tensor([0.0, 1.0]).double())
