"""Door checks: what they take, what they refuse and in which words, and what they cost."""

import re
import time

import numpy as np
import pytest
import torch

from regimes.checks import alike, count, counts, finite, function, kind, not_negative, positive, real, shapes
from regimes.errors import first_line, one_line
from regimes.tangent.gram.footprint import most_bytes

ones = torch.ones


def test_the_sizes_of_the_named_axes_are_given_back():
    assert shapes("f", x=(ones(8, 3), "n d"), y=(ones(5, 8, 2), "*runs n k")) == {"n": 8, "d": 3, "k": 2}
    assert shapes("f", x=(np.ones((4, 3)), "n 3"), z=(ones(9, 9), "*_ _")) == {"n": 4}
    assert shapes("f", x=(ones(4, 3), "n 3"), y=(None, "n k"), optional=("y",)) == {"n": 4}
    with pytest.raises(ValueError, match=r"f needs y \(n, k\); got None\. Pass y\."):
        shapes("f", x=(ones(4, 3), "n 3"), y=(None, "n k"))


@pytest.mark.parametrize(
    ("first", "second"),
    [((8, 2), (8, 2)), ((5, 8, 2), (5, 8, 2)), ((5, 8, 2), (8, 2)), ((5, 8, 2), (1, 8, 2)), ((4, 5, 8, 2), (5, 8, 2))],
)
def test_leading_runs_may_broadcast_against_more_of_them(first, second):
    sizes = {"n": 8, "k": 2}
    assert shapes("f", a=(ones(first), "*runs n k"), b=(ones(second), "*#runs n k")) == sizes
    assert shapes("f", b=(ones(second), "*#runs n k"), a=(ones(first), "*runs n k")) == sizes


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ((8, 1), (8,), r"needs a \(\*runs, n, k\), b \(\*runs, n, k\); got a \(8, 1\), b \(8,\): b has 1 axis .*b\["),
        ((8, 1), (4, 1), "n is 8 and 4"),
        ((8, 1), (8, 2), "k is 1 and 2"),
        ((8, 1), (1, 1), "n is 8 and 1"),
        ((8, 2), (5, 8, 2), "runs is"),
        ((1, 8, 2), (5, 8, 2), "runs is"),
        ((5, 8, 2), (4, 8, 2), "runs is"),
        ((0, 2), (0, 2), "a is empty"),
    ],
)
def test_a_misfit_says_what_is_needed_what_came_and_what_to_do(first, second, words):
    with pytest.raises(ValueError, match=r"^f needs a") as raised:
        shapes("f", a=(ones(first), "*runs n k"), b=(ones(second), "*#runs n k"))
    assert raised.match(words)
    with pytest.raises(ValueError, match=r"^f needs"):
        shapes("f", b=(ones(second), "*#runs n k"), a=(ones(first), "*runs n k"))


def test_other_misfits_are_named_as_well():
    with pytest.raises(ValueError, match=r"needs x \(n, 3\); got x \(2, 4\): x has 4 in place of 3"):
        shapes("f", x=(ones(2, 4), "n 3"))
    with pytest.raises(ValueError, match=r"got x list: x is a list. Pass a tensor"):
        shapes("f", x=([1.0], "n"))
    with pytest.raises(ValueError, match=r"x has 3 axes where 2 are needed. Take one run."):
        shapes("f", x=(ones(2, 2, 2), "n k"), cure="Take one run.")
    for one, other in (((3, 2), (4, 2)), ((1, 2), (4, 2)), ((4, 2), (1, 2)), ((2,), (4, 2))):
        with pytest.raises(ValueError, match="runs is"):
            shapes("f", a=(ones(one), "*runs k"), b=(ones(other), "*runs k"))


def test_arrays_may_broadcast_both_ways_where_all_say_so():
    for one, other in (((3, 2), (2,)), ((1, 2), (4, 2)), ((4, 1, 2), (5, 2))):
        shapes("f", a=(ones(one), "*#runs k"), b=(ones(other), "*#runs k"))
    with pytest.raises(ValueError, match=r"runs is \(3,\) and \(4,\)"):
        shapes("f", a=(ones(3, 2), "*#runs k"), b=(ones(4, 2), "*#runs k"))


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64, torch.float16, torch.bfloat16])
def test_only_real_numbers_of_full_precision_pass(dtype):
    real("f", x=ones(2), y=ones(2).double(), w=None)
    real("f", numpy=True, x=ones(2), z=np.ones(2))
    with pytest.raises(ValueError, match=r"f needs z as a tensor; got ndarray\. Use torch\.as_tensor"):
        real("f", z=np.ones(2))
    with pytest.raises(ValueError, match=rf"f needs x in float32 or float64; got {str(dtype)[6:]}: .*\."):
        real("f", x=ones(2, dtype=dtype))
    with pytest.raises(ValueError, match=r"needs x as a tensor; got list. Use torch\.as_tensor"):
        real("f", x=[1.0])


def test_sixteen_bits_pass_where_they_are_asked_for():
    real("f", half=True, x=ones(2, dtype=torch.bfloat16))
    with pytest.raises(ValueError, match="complex"):
        real("f", half=True, x=ones(2, dtype=torch.complex64))
    with pytest.raises(ValueError, match="int64"):
        real("f", numpy=True, x=np.ones(2, dtype=np.int64))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.ones(2, np.int64), "no fractions. Convert: x.astype(float)"),
        (np.ones(2, np.float16), "got float16: 16 bits are not enough here. Convert: x.astype(float)"),
        (np.ones(2, np.longdouble), "it would be rounded"),
        (np.array(["a"]), "it holds no numbers"),
        (np.ones(2, object), "got object: it holds no numbers"),
        (np.float64(1), "as a tensor; got float64"),
        (torch.ones(2, dtype=torch.int64), "Convert: x.double()"),
    ],
)
def test_a_refusal_names_what_is_wrong_with_an_array_and_its_own_cure(values, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        real("f", numpy=True, x=values)


def test_arrays_of_sixteen_bits_pass_like_tensors():
    real("f", half=True, numpy=True, x=np.ones(2, np.float16))
    with pytest.raises(ValueError, match="as a tensor; got ndarray"):
        real("f", half=True, x=np.ones(2, np.float16))


def test_tensors_of_one_precision_pass_and_of_two_do_not():
    alike("f", x=ones(2), y=ones(3), z=None)
    with pytest.raises(ValueError, match="x, y of one precision on one device; got x float32 on cpu, y float64 on cpu"):
        alike("f", x=ones(2), y=ones(3).double())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_entries_that_are_not_finite_are_counted(bad):
    finite("f", x=ones(3), y=np.ones(3), z=None)
    with pytest.raises(ValueError, match=r"f needs finite x; 1 of its 3 entries is NaN or infinite. Look"):
        finite("f", x=torch.tensor([1.0, bad, 2.0]))
    with pytest.raises(ValueError, match="2 of its 2 entries are"):
        finite("f", x=np.array([bad, bad]))


def test_a_count_is_a_whole_number():
    assert count("f", "runs", np.int64(3)) == 3
    assert count("f", "depth", 0, at_least=0) == 0
    for wrong in (0, -1, 1.0, float("nan"), True, "3", None):
        with pytest.raises(ValueError, match=r"f needs runs as a whole number, at least 1; got .*Change runs"):
            count("f", "runs", wrong)


@pytest.mark.parametrize("shape", [(3 * 2**18 + 5,), (1, 1, 2**20), (2**10, 1, 2**10), (2, 3, 2**18 + 1)])
@pytest.mark.parametrize("of", [torch.zeros, np.zeros])
def test_many_entries_are_looked_at_in_parts_and_none_is_missed(of, shape):
    x = of(shape)
    finite("f", x=x)
    flat = x.reshape(-1)
    flat[-1] = flat[len(flat) // 2] = float("nan")
    with pytest.raises(ValueError, match=rf"2 of its {len(flat)} entries are NaN"):
        finite("f", x=x)
    with pytest.raises(ValueError, match=rf"2 of its {len(flat)} entries are NaN"):
        finite("f", x=x.T if len(shape) == 2 else x.swapaxes(0, -1))


def test_looking_at_many_entries_takes_little_memory():
    most = most_bytes(lambda: finite("f", x=x), [x := torch.zeros(2000, 3000)])[0]
    assert most < x.nbytes / 5


def test_a_positive_number_is_finite_and_above_zero():
    positive("f", "alpha", 1e-300)
    positive("f", "alpha", ones(3))
    positive("f", "radius", float("inf"), infinite=True)
    positive("f", "radius", torch.tensor([1.0, float("inf")]), infinite=True)
    not_negative("f", "ridge", 0)
    for wrong in (0.0, -1.0, float("nan"), float("inf"), 10**400, "a", None, True, 1j, torch.tensor([float("nan")])):
        with pytest.raises(ValueError, match=r"f needs alpha as a finite number above 0; got .*Change alpha"):
            positive("f", "alpha", wrong)
    for wrong in (-1e-300, float("nan"), float("inf"), torch.tensor([-1.0]), ones(0), ones(1, dtype=torch.complex64)):
        with pytest.raises(ValueError, match="f needs ridge as a finite number of at least 0"):
            not_negative("f", "ridge", wrong)
    with pytest.raises(ValueError, match="as a number above 0; got nan"):
        positive("f", "radius", float("nan"), infinite=True)


def test_a_check_costs_no_more_than_a_few_small_products():
    a, b = ones(5, 8, 2), ones(8, 2)

    def check():
        shapes("f", a=(a, "*runs n k"), b=(b, "*#runs n k"))
        real("f", a=a, b=b)

    def product():
        return a @ b.mT

    # Side by side, as a busy machine slows both.
    least = dict.fromkeys((check, product), float("inf"))
    for _ in range(500):
        for work in least:
            start = time.perf_counter()
            work()
            least[work] = min(least[work], time.perf_counter() - start)
    assert least[check] < 15 * least[product]  # measured: 2 to 6 products


def test_a_sequence_of_sizes_is_one_of_whole_numbers():
    assert counts("f", "shape", [1, np.int64(8), 8], 3) == (1, 8, 8)
    for wrong in ((), (1, 2), "12", 3, None, {1: 2}, iter([1, 2, 3]), (1, 2, 0), (1, 2, 3.0)):
        with pytest.raises(ValueError, match=r"f needs (shape as a sequence of 3 whole numbers|every entry of shape)"):
            counts("f", "shape", wrong, 3)


def test_another_kind_is_named_and_a_class_is_no_function():
    kind("f", "model", torch.nn.Linear(1, 1), torch.nn.Module, "a torch module")
    with pytest.raises(ValueError, match=r"f needs model as a torch module; got the class Linear\."):
        kind("f", "model", torch.nn.Linear, torch.nn.Module, "a torch module")
    function("f", law=torch.relu, other=None)
    for wrong in (torch.nn.ReLU, 3):
        with pytest.raises(ValueError, match="f needs law as a function; got"):
            function("f", law=wrong)


@pytest.mark.parametrize("check", [positive, not_negative])
def test_one_number_is_asked_for_where_several_would_be_taken(check):
    check("f", "alpha", torch.ones(3))
    check("f", "alpha", torch.ones(()), single=True)
    for several in (torch.ones(3), np.ones(3), [1.0]):
        with pytest.raises(ValueError, match="f needs alpha as one number"):
            check("f", "alpha", several, single=True)


def test_what_has_no_values_is_not_finite():
    with pytest.raises(ValueError, match="f needs x with values; it is on the meta device"):
        finite("f", x=torch.empty(2, device="meta"))


def test_what_an_error_says_is_told_on_one_line_and_one_without_words_by_its_kind():
    assert one_line(RuntimeError("two\n  lines")) == "two lines"
    assert one_line(KeyError()) == "KeyError"
    assert one_line(ValueError("x" * 300), 100) == "x" * 96 + " ..."
    long = RuntimeError("Batch norm got confused. " * 20 + "\nTraceback of torch")
    assert len(one_line(long)) <= 200
    assert set(one_line(long).split()) == {"Batch", "norm", "got", "confused.", "..."}
    assert first_line(RuntimeError("cannot differentiate.\nTraceback of torch")) == "cannot differentiate"
    assert first_line(KeyError()) == "KeyError"
