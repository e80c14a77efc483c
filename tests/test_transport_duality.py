import numpy as np
import pytest
from scipy.sparse import coo_matrix
from torch.testing import assert_close

from regimes.transport.cost import cost_matrix
from regimes.transport.discrete import exact_transport
from regimes.transport.duality import c_transform, certify, feasible


def clouds(n=40, m=50, d=3):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, d)), rng.normal(size=(m, d)) + 1


@pytest.mark.parametrize(("d", "shift"), [(1, 0.0), (2, 1e6), (8, 0.0), (17, -3.0), (64, 1e3)])
def test_costs_have_the_bits_of_a_sum_over_features(d, shift):
    rng = np.random.default_rng(d)
    x, y = rng.normal(size=(30, d)) + shift, rng.normal(size=(20, d)) + shift
    squared = np.zeros((30, 20))
    for k in range(d):
        squared += (x[:, k, None] - y[None, :, k]) ** 2
    np.testing.assert_array_equal(cost_matrix(x, y, 2.0), squared)
    np.testing.assert_array_equal(cost_matrix(x, y, 1.0), np.sqrt(squared))


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_the_c_transform_is_the_least_slack(p):
    x, y = clouds()
    v = np.random.default_rng(1).normal(size=50)
    u = c_transform(x, y, v, p=p)
    slack = cost_matrix(x, y, p) - u[:, None] - v
    assert slack.min() >= -1e-12
    assert_close(slack.min(1), np.zeros(40))


def test_transforms_make_any_potential_feasible_and_only_raise_the_value():
    x, y = clouds(n=50)
    u = c_transform(x, y, np.zeros(50)) - np.random.default_rng(2).random(50)
    raised, v = feasible(x, y, u)
    slack = cost_matrix(x, y, 2.0) - raised[:, None] - v
    assert slack.min() >= -1e-12
    assert (raised >= u - 1e-12).all()


def test_the_potentials_of_a_solve_prove_it():
    x, y = clouds()
    solved = exact_transport(x, y)
    proof = certify(x, y, solved.u, solved.v, solved.plan)
    assert proof.optimal
    assert_close(proof.primal, solved.primal)
    assert_close(proof.dual_value, solved.dual_value, rtol=1e-9, atol=0)
    assert proof.max_violation <= 1e-12
    assert proof.slackness <= 1e-8


def test_equal_values_and_complementary_slackness_prove_nothing_without_feasibility():
    x, y = np.random.default_rng(3).normal(size=(2, 300, 2))
    own = np.diagonal(cost_matrix(x, y, 2.0))
    pairing = coo_matrix((np.full(300, 1 / 300), (np.arange(300), np.arange(300))))
    primal = float(own.mean())  # the value of u = own cost, v = 0 too, and both bind on the whole plan
    proof = certify(x, y, own, np.zeros(300), pairing)
    assert proof.slackness <= 1e-15
    assert not proof.optimal
    assert proof.max_violation > 0.1
    assert proof.dual_value < exact_transport(x, y).cost < primal


def test_feasible_potentials_that_are_not_tight_do_not_certify():
    x, y = clouds()
    solved = exact_transport(x, y)
    proof = certify(x, y, solved.u - 0.1, solved.v, solved.plan)
    assert not proof.optimal
    assert_close(proof.dual_value, solved.dual_value - 0.1, rtol=1e-9, atol=0)
    assert_close(proof.slackness, 0.1, rtol=1e-6, atol=0)  # the tolerance of the solve


def test_a_plan_of_another_shape_is_named():
    x, y = clouds()
    with pytest.raises(ValueError, match="needs the plan as"):
        certify(x, y, np.zeros(40), np.zeros(50), exact_transport(y, x).plan)


def test_potentials_of_float32_are_added_in_float64():
    random = np.random.default_rng(1)
    u, v = (np.float32(random.random(1)) for _ in range(2))
    cost = np.array([[float((u + v)[0])]])
    found = certify(np.zeros((1, 1)), cost, u, v, coo_matrix([[1.0]]), p=1.0)
    assert found.max_violation == pytest.approx(float(u[0]) + float(v[0]) - cost[0, 0], rel=1e-9)
    assert found.dual_value <= found.primal
    assert c_transform(np.zeros((1, 1)), cost, v, p=1.0)[0] == cost[0, 0] - float(v[0])
