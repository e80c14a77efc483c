import math

import pytest
import torch
from torch.testing import assert_close

from regimes.control import tableau as tableaus
from regimes.control.tableau import (
    EULER,
    GAUSS2,
    HEUN,
    KUTTA4,
    STORMER_VERLET,
    SYMPLECTIC_EULER,
    TABLEAUS,
    Pair,
    Tableau,
)
from regimes.control.trees import order, product_order, trees

BY_NAME = [pytest.param(each, id=each.name) for each in TABLEAUS]


def test_rooted_trees_are_as_many_as_are_known():
    assert [len(trees(vertices)) for vertices in range(1, 7)] == [1, 1, 2, 4, 9, 20]
    assert [len(trees(vertices, 2)) for vertices in range(1, 5)] == [2, 4, 14, 52]


def test_densities_of_tall_and_bushy_trees():
    bushy, *_, tall = sorted(trees(4), key=lambda tree: tree.density)
    assert tall.density == math.factorial(4)
    assert bushy.density == 4


@pytest.mark.parametrize("method", BY_NAME)
def test_the_order_that_a_tableau_claims_is_the_highest_that_it_has(method):
    assert order([(method.a, method.b)], 7) == method.order
    if method.b_hat is not None:
        assert order([(method.a, method.b_hat)], 7) == method.order_hat


@pytest.mark.parametrize("pair", [SYMPLECTIC_EULER, STORMER_VERLET])
def test_the_order_of_a_pair_is_the_highest_that_it_has(pair):
    assert order([(each.a, each.b) for each in (pair.first, pair.second)], 4) == pair.order


def test_which_methods_keep_quadratic_invariants():
    keeping = {"implicit midpoint", "Gauss, 2 stages", "Gauss, 3 stages"}
    assert {each.name for each in TABLEAUS if each.symplectic} == keeping
    assert {each.name for each in TABLEAUS if product_order(each.a, each.b, 7) == 7} == keeping
    assert SYMPLECTIC_EULER.symplectic
    assert STORMER_VERLET.symplectic
    assert not Pair("both explicit", EULER, EULER, 1).symplectic


def test_heun_keeps_quadratic_invariants_one_order_beyond_its_own():
    orders = {each.name: (each.order, product_order(each.a, each.b, 7)) for each in TABLEAUS if not each.symplectic}
    assert orders.pop("Heun") == (2, 3)
    assert all(own == kept for own, kept in orders.values())


@pytest.mark.parametrize("method", [each for each in TABLEAUS if 0 not in each.b])
def test_a_partner_keeps_products_and_is_its_partner_s_partner(method):
    partner = method.partner()
    assert tableaus.preserves_products(method, partner)
    back = Tableau("partner", partner, method.b, 1).partner()
    assert_close(torch.tensor(back), torch.tensor(method.a))


def test_a_method_that_is_its_own_partner_is_symplectic():
    assert_close(torch.tensor(GAUSS2.partner()), torch.tensor(GAUSS2.a))
    assert not tableaus.preserves_products(HEUN, HEUN.a)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": 5}, "order conditions hold up to 4"),
        ({"b": (0.25, 0.25, 0.25, 0.25)}, "order conditions hold up to 2"),
        ({"b": (1.0,)}, "as many as b has weights"),
        ({"order": 0}, "got 0"),
        ({"b": (math.nan, 0.0, 0.0, 0.0)}, "finite coefficients"),
        ({"b_hat": (1.0, 0.0, 0.0, 0.0), "order_hat": 2}, "order conditions hold up to 1"),
    ],
)
def test_a_tableau_that_claims_too_much_is_refused(change, message):
    known = {"name": "mine", "a": KUTTA4.a, "b": KUTTA4.b, "order": 4}
    assert Tableau(**known).explicit
    with pytest.raises(ValueError, match=message):
        Tableau(**{**known, **change})


def test_pairs_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="as many stages"):
        Pair("mine", EULER, HEUN, 1)
    with pytest.raises(ValueError, match="order conditions hold up to 1"):
        Pair("mine", EULER, EULER, 2)


def test_a_partner_needs_weights_other_than_zero():
    with pytest.raises(ValueError, match="weights b other than 0"):
        tableaus.DORMAND_PRINCE.partner()
