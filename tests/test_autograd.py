"""The graph: the sweep, accumulation, hooks, freeing, in-place changes, higher orders."""

import gc
import threading
import weakref

import numpy as np
import pytest

import minidl
import minidl.nn.functional as F
from minidl import autograd
from minidl.autograd import FREED, differentiable
from minidl.kernels import Kernel
from minidl.ops.conv import conv2d_backward


def leaf(*values):
    return minidl.tensor(values, dtype=np.float64, requires_grad=True)


# --- the sweep ------------------------------------------------------------------------------------------------------
def test_a_chain_of_100_000_operations_works():
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = y + x
    y.backward()
    assert x.grad.item() == 100_001
    del y  # and is freed without recursion


def test_a_graph_with_2_to_the_40_paths_takes_linear_time():
    x = leaf(1.0)
    y = x
    for _ in range(40):
        y = y + y
    y.backward()
    assert x.grad.item() == 2.0**40


def test_gradients_accumulate_over_uses_and_over_calls():
    x = leaf(2.0, 3.0)
    (x * x + x).sum().backward()
    np.testing.assert_array_equal(x.grad.array, [5, 7])
    (3 * x).sum().backward()
    np.testing.assert_array_equal(x.grad.array, [8, 10])


def test_a_gradient_that_arrives_twice_is_not_added_into_a_shared_array():
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    given = minidl.tensor(np.array([1.0, 10.0]))
    z = x + y
    (z + x).backward(given)
    np.testing.assert_array_equal(given.array, [1, 10])
    np.testing.assert_array_equal(x.grad.array, [2, 20])
    np.testing.assert_array_equal(y.grad.array, [1, 10])
    x.grad.zero_()
    np.testing.assert_array_equal(y.grad.array, [1, 10])
    assert not np.shares_memory(y.grad.array, given.array)


def test_leaves_have_gradients_of_their_own():
    x, y = leaf(1.0), leaf(1.0)
    (x + y).sum().backward()
    x.grad.zero_()
    assert y.grad.item() == 1


def test_only_leaves_that_require_grad_get_one():
    x, constant = leaf(1.0), minidl.tensor([2.0])
    y = x * constant
    y.backward()
    assert constant.grad is None and y.grad is None and x.grad.item() == 2


def test_backward_twice_is_refused_and_says_what_to_do():
    x = leaf(1.0)
    y = (x * x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match=r"sum: .*freed by an earlier backward.*retain_graph=True"):
        y.backward()


def test_retain_graph_allows_a_second_backward():
    x = leaf(3.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 12


def test_saved_arrays_are_freed_while_backward_passes():
    freed = []
    x = leaf(1.0, 2.0)
    hidden = x * x
    node = hidden.node
    y = (hidden * hidden).sum()
    hidden.register_hook(lambda dy: freed.append(last.saved is FREED))
    last = y.node.inputs[0]
    y.backward()
    assert freed == [True]  # the node after `hidden` was freed before `hidden` was reached
    assert node.saved is FREED


def test_an_array_that_no_backward_needs_goes_when_the_user_drops_it():
    x = minidl.randn(4, 4, requires_grad=True)
    y = x + 1  # addition saves shapes only
    z = y + 1
    gone = weakref.ref(y)
    del y
    assert gone() is None
    z.sum().backward()


def count_graph_objects():
    kinds = (autograd.Node, autograd.TensorBase)
    return sum(issubclass(type(o), kinds) for o in gc.get_objects())  # isinstance would look into lazy modules


def test_backward_needs_no_cycle_collector():
    gc.collect()
    gc.disable()
    try:
        before = count_graph_objects()
        w = minidl.randn(8, 8, requires_grad=True)
        for _ in range(50):
            loss = F.relu(F.linear(minidl.randn(4, 8), w)).sum()
            loss.backward()
            w.grad = None
        del loss
        after = count_graph_objects()
    finally:
        gc.enable()
    assert after - before <= 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: minidl.tensor([1.0]).backward(), "has no graph"),
        (lambda: leaf(1.0, 2.0).backward(), r"only for a single number, but this Tensor has shape \(2,\)"),
        (lambda: (leaf(1.0, 2.0) * 2).backward(np.ones(3)), r"gradient has shape \(3,\) but the Tensor has \(2,\)"),
        (lambda: autograd.grad(leaf(1.0).sum(), minidl.tensor([1.0])), r"inputs\[0\] does not require grad"),
        (lambda: autograd.grad(leaf(1.0).sum(), leaf(1.0)), r"inputs \[0\] were not used"),
    ],
)
def test_what_cannot_be_differentiated_is_refused(make, message):
    with pytest.raises(RuntimeError, match=message):
        make()


# --- what is computed -----------------------------------------------------------------------------------------------
def test_a_gradient_that_nobody_asked_for_is_never_computed(monkeypatch):
    asked = []
    original = conv2d_backward.text

    def watch(dy, saved, needs):
        asked.append(needs)
        return original(dy, saved, needs)

    monkeypatch.setattr(conv2d_backward, "text", watch)
    x, w = minidl.randn(1, 2, 5, 5), minidl.randn(3, 2, 3, 3, requires_grad=True)
    with minidl.use_kernels(False):
        F.conv2d(x, w).sum().backward()
        inner = minidl.randn(1, 2, 5, 5, requires_grad=True)
        autograd.grad(F.conv2d(inner, w).sum(), inner)
    assert asked == [(False, True, False), (True, False, False)]


def test_grad_computes_only_what_leads_to_its_inputs():
    visited = []

    def op(name):
        def forward(x):
            return x * 1, None

        def backward(dy, saved, needs):
            visited.append(name)
            return (dy,)

        return differentiable(Kernel(forward), Kernel(backward))

    x, y = leaf(1.0), leaf(2.0)
    z = op("a")(x) + op("b")(y)
    (dx,) = autograd.grad(z.sum(), [x])
    assert visited == ["a"] and dx.item() == 1 and x.grad is None


def test_grad_of_an_inner_tensor():
    x = leaf(2.0)
    hidden = x * x
    (d,) = autograd.grad((hidden * hidden).sum(), hidden)
    assert d.item() == 8
    assert autograd.grad(leaf(1.0).sum(), x, allow_unused=True) == (None,)


def test_functions_of_arrays_return_arrays():
    assert type(F.relu(np.array([-1.0, 2.0]))) is np.ndarray
    assert type(F.linear(np.ones((2, 3)), np.ones((4, 3)))) is np.ndarray


# --- recording ------------------------------------------------------------------------------------------------------
def test_no_grad_records_nothing_as_context_and_decorator():
    x = leaf(1.0)
    with minidl.no_grad():
        assert not (x * 2).requires_grad
        with minidl.enable_grad():
            assert (x * 2).requires_grad
        assert not minidl.is_grad_enabled()

    @minidl.no_grad()
    def double(v, depth=1):
        return double(v, depth - 1) if depth else v * 2

    assert not double(x).requires_grad
    assert (x * 2).requires_grad


def test_no_grad_ends_also_after_an_error():
    with pytest.raises(ZeroDivisionError), minidl.no_grad():
        raise ZeroDivisionError
    assert minidl.is_grad_enabled()


def test_set_grad_enabled_works_at_once_and_as_a_context():
    minidl.set_grad_enabled(False)
    assert not minidl.is_grad_enabled()
    minidl.set_grad_enabled(True)
    with minidl.set_grad_enabled(False):
        assert not minidl.is_grad_enabled()
    assert minidl.is_grad_enabled()


def test_no_grad_is_of_one_thread():
    seen = []
    with minidl.no_grad():
        thread = threading.Thread(target=lambda: seen.append(minidl.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_detach_cuts_the_graph():
    x = leaf(3.0)
    y = (x * x).detach() * x
    y.backward()
    assert x.grad.item() == 9


# --- hooks ----------------------------------------------------------------------------------------------------------
def test_a_hook_sees_the_complete_gradient_and_may_replace_it():
    x = leaf(1.0)
    hidden = x * 2
    seen = []

    def halve(dy):
        seen.append(dy.item())
        return dy * 0.5

    hidden.register_hook(halve)
    (hidden * 3 + hidden * 4).backward()
    assert seen == [7] and x.grad.item() == 7


def test_a_hook_of_a_leaf_and_its_removal():
    x = leaf(1.0)
    seen = []
    handle = x.register_hook(lambda dy: seen.append(dy.item()))
    (x * 2 + x).sum().backward()
    handle.remove()
    handle.remove()
    (x * 2).sum().backward()
    assert seen == [3] and x.grad.item() == 5


def test_a_hook_outlives_its_tensor():
    x, seen = leaf(1.0), []
    hidden = x * 2
    hidden.register_hook(lambda dy: seen.append(1))
    y = hidden * 3
    del hidden
    y.backward()
    assert seen == [1]


def test_a_hook_that_returns_another_shape_is_refused():
    x = leaf(1.0, 2.0)
    x.register_hook(lambda dy: dy.sum())
    with pytest.raises(RuntimeError, match=r"hook: returned a gradient of shape \(\), expected \(2,\)"):
        (x * 2).sum().backward()


def test_retain_grad():
    x = leaf(1.0)
    hidden = x * 2
    hidden.retain_grad()
    (hidden * 3).backward()
    assert hidden.grad.item() == 3


# --- in-place changes -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "change",
    [
        lambda h: h.detach().zero_(),
        lambda h: h.detach().__setitem__(0, 5.0),
        lambda h: h.detach()[1:].fill_(3.0),
        lambda h: h.add_(1),
        lambda h: h.detach().reshape(2, 1).mul_(2),
    ],
)
def test_an_in_place_change_of_a_saved_array_is_detected(change):
    x = leaf(1.0, 2.0)
    hidden = x * 1
    y = (hidden * hidden).sum()
    change(hidden)
    with pytest.raises(RuntimeError, match=r"multiply: an array of shape \(2,\) .* was changed in place"):
        y.backward()


def test_a_single_element_is_a_view_too():
    x = minidl.tensor([1.0, 2.0])
    first = x[0]
    x[0] = 5.0
    first += 1
    assert x.tolist() == [6, 2]


def test_a_change_of_the_base_is_seen_through_a_saved_view():
    x = minidl.tensor(np.arange(6.0).reshape(2, 3))
    w = minidl.tensor(np.ones(3), requires_grad=True)
    y = (x[1] * w).sum()
    x[0, 0] = 7.0
    with pytest.raises(RuntimeError, match="multiply: .* changed in place"):
        y.backward()


def test_an_in_place_change_of_what_nobody_saved_is_fine():
    x = leaf(1.0, 2.0)
    hidden = x * 2
    y = hidden + 1
    with minidl.no_grad():
        hidden.zero_()
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.array, [2, 2])


def test_the_factor_of_a_number_is_not_saved():
    x = leaf(1.0, 2.0)
    hidden = x + 1
    y = hidden * 2 + 3 * hidden + hidden / 4
    hidden.detach().zero_()
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.array, [5.25, 5.25])


def test_nan_and_inf_travel_on_in_silence():
    """Where NumPy would warn, which is an error here."""
    x = minidl.tensor([0.0, -1.0], requires_grad=True)
    y = x.log() + 1 / x
    y.sum().backward()
    np.testing.assert_array_equal(y.detach().array, [np.nan, np.nan])
    np.testing.assert_array_equal(x.grad.array, [np.nan, -2])


def test_an_in_place_operation_is_recorded():
    x = leaf(1.0, 2.0)
    hidden = x * 1
    hidden += x * 3
    hidden[0] = x[1] * 10
    hidden.sum().backward()
    np.testing.assert_array_equal(x.grad.array, [0, 14])


def test_a_leaf_in_the_graph_is_not_changed_in_place():
    x = leaf(1.0)
    with pytest.raises(RuntimeError, match="leaf Tensor that requires grad.*no_grad"):
        x += 1
    with minidl.no_grad():
        x += 1
    assert x.item() == 2


def test_a_view_made_before_its_memory_was_changed_is_not_used_again():
    x = leaf(1.0, 2.0)
    hidden = x * 1
    view = hidden[:1]
    hidden.mul_(2)
    with pytest.raises(RuntimeError, match="is a view, made before its memory was changed"):
        view * 3


# --- higher orders --------------------------------------------------------------------------------------------------
def test_derivatives_of_any_order():
    x = leaf(2.0)
    y = x**5
    for order, expected in enumerate([80, 160, 240, 240, 120, 0], start=1):
        (y,) = autograd.grad(y.sum(), x, create_graph=order < 6, allow_unused=True)
        assert y.item() == expected


def test_second_derivatives_through_values_that_the_user_dropped():
    """exp's output is gone when it is wanted again; it is computed anew from the leaf."""
    x = leaf(0.5)
    y = ((x * 2).exp() * 3).sum()
    gc.collect()
    (dx,) = autograd.grad(y, x, create_graph=True)
    (ddx,) = autograd.grad(dx.sum(), x)
    assert ddx.item() == pytest.approx(12 * np.exp(1.0), rel=1e-14)


def test_create_graph_of_backward_leaves_differentiable_gradients():
    x = leaf(3.0)
    (x**3).sum().backward(create_graph=True)
    assert x.grad.requires_grad
    (second,) = autograd.grad(x.grad.sum(), x)
    assert second.item() == 18


def test_a_gradient_penalty_trains():
    """A loss of a gradient: through convolution, batch norm, ReLU, pooling and softmax cross-entropy."""
    rng = np.random.default_rng(0)
    x = minidl.tensor(rng.standard_normal((4, 2, 6, 6)), requires_grad=True)
    w = minidl.tensor(rng.standard_normal((3, 2, 3, 3)), requires_grad=True)
    gamma, beta = (minidl.tensor(rng.standard_normal(3), requires_grad=True) for _ in range(2))

    def penalty(w_array):
        weight = minidl.tensor(w_array, requires_grad=True)
        hidden = F.batch_norm(F.conv2d(x, weight, padding=1), None, None, gamma, beta, training=True)
        logits = F.max_pool2d(F.relu(hidden), 2).sum((2, 3))
        loss = F.cross_entropy(logits, np.array([0, 2, 1, 1]))
        (dx,) = autograd.grad(loss, x, create_graph=True)
        return (dx * dx).sum(), weight

    value, weight = penalty(w.array)
    value.backward()
    direction = rng.standard_normal(w.shape)
    step = 1e-5
    plus, minus = (penalty(w.array + sign * step * direction)[0].item() for sign in (1, -1))
    assert np.vdot(weight.grad.array, direction) == pytest.approx((plus - minus) / (2 * step), rel=1e-6)
