"""Hooks of tensors, of nodes, of saved values: when they run, what they may change, and what an error in one leaves behind."""

import gc
import sys
import threading
import weakref

import pytest

import numbatensor as nt

graph = nt.autograd.graph


def leaf(*values):
    return nt.tensor(list(values), requires_grad=True)


# what becomes of saved values


def test_what_is_packed_is_freed():
    x = leaf(1.0, 2.0)
    with graph.saved_tensors_hooks(lambda t: t.tolist(), nt.tensor):
        y = (x * x).exp()
    y.sum().backward()
    assert x.grad.tolist() == pytest.approx([5.43656, 218.3926])


# what reaches `.grad`


@pytest.mark.filterwarnings("ignore:Using backward")
def test_gradients_under_create_graph_have_memory_of_their_own():
    x, w, seed = leaf(1.0, 2.0), leaf(3.0, 4.0), nt.ones(2)
    (x + w).backward(seed, create_graph=True)
    with nt.no_grad():
        x.grad.mul_(5.0)
    assert (x.grad.tolist(), w.grad.tolist(), seed.tolist()) == ([5.0, 5.0], [1.0, 1.0], [1.0, 1.0])
    v = leaf(1.0, 2.0)
    v.sum().backward(create_graph=True)
    assert v.grad.stride() == (1,)


def test_a_gradient_spread_over_one_element_is_not_written():
    x = leaf(1.0, 2.0)
    x.grad = nt.zeros(1).expand(2)
    (x * nt.tensor([1.0, 5.0])).sum().backward()
    assert x.grad.tolist() == [1.0, 5.0]


# slots of freed graphs


def test_saved_values_of_a_freed_node_are_gone():
    x = leaf(1.0, 2.0)
    y = x.exp() * x
    raw = y.grad_fn._raw_saved_self
    y.sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        raw.register_hooks(lambda t: t, lambda t: t)


# threads


def test_hooks_registered_by_several_threads_at_once(switch_often):
    for _ in range(50):
        x, told, ready = leaf(1.0), [], threading.Barrier(3)

        def register(k, x=x, told=told, ready=ready):
            ready.wait()
            if k:
                x.register_hook(lambda grad: told.append(k))
            else:
                x.register_post_accumulate_grad_hook(lambda p: told.append(k))

        threads = [threading.Thread(target=register, args=(k,)) for k in range(3)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        (x * 2.0).backward()
        assert sorted(told) == [0, 1, 2]


def test_a_hook_of_several_tensors_in_passes_of_several_threads(switch_often):
    a, b, told = leaf(1.0), leaf(1.0), []
    handle = graph.register_multi_grad_hook([a, b], lambda grads: told.append([g.item() for g in grads]))

    def work():
        for _ in range(50):
            (a * 2.0 + a * b).sum().backward()

    threads = [threading.Thread(target=work) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert told == [[3.0, 1.0]] * 200
    handle.remove()


@pytest.fixture
def switch_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


# order, replacement, and handles


def test_every_kind_in_its_order():
    """Before the rule: the tensor's hooks, what is retained, then the node's; after all rules: the leaves'."""
    x, log = leaf(1.0, 2.0), []
    y = x * 2.0
    z = y.exp()
    y.retain_grad()
    y.register_hook(lambda g: log.append("y") or g * 2.0)
    y.grad_fn.register_hook(lambda got, given: log.append("after y"))
    y.grad_fn.register_prehook(lambda given: log.append(("before y", given[0].tolist() == y_grad())))
    z.register_hook(lambda g: log.append("z"))
    x.register_hook(lambda g: log.append("x") or g * 10.0)
    x.register_post_accumulate_grad_hook(lambda p: log.append(("whole", p.grad.tolist())))

    def y_grad():
        return (z * 2.0).detach().tolist()

    z.sum().backward()
    expected = (z * 40.0).tolist()
    assert log == ["z", "y", ("before y", True), "after y", "x", ("whole", expected)]
    assert y.grad.tolist() == y_grad() and x.grad.tolist() == expected


def test_hooks_see_what_the_one_before_gave():
    x, seen = leaf(1.0), []
    x.register_hook(lambda g: g * 2.0)
    x.register_hook(lambda g: seen.append(g.item()))
    x.register_hook(lambda g: g + 1.0)
    (x * 3.0).backward()
    assert seen == [6.0] and x.grad.item() == 7.0


def test_a_hook_may_write_its_gradient():
    """Though something else has the same one: the other summand's, and the caller's seed."""
    x, w, seed = leaf(1.0), leaf(1.0), nt.ones(1)
    y = x * 1.0
    y.register_hook(lambda g: g.mul_(5.0) and None)
    x.register_hook(lambda g: (g.add_(1.0), None)[1])
    (y + w).backward(seed)
    assert (x.grad.item(), w.grad.item(), seed.item()) == (6.0, 1.0, 1.0)


def test_a_gradient_that_a_hook_keeps_does_not_change():
    x, kept = leaf(1.0, 2.0), []
    y = x * 1.0
    y.register_hook(kept.append)
    x.register_hook(lambda g: kept.append(g.numpy()) and None)
    (y + y * 2.0).sum().backward(retain_graph=True)
    (y * 5.0 + x).sum().backward()
    assert [k.tolist() for k in kept] == [[3.0, 3.0], [3.0, 3.0], [5.0, 5.0], [6.0, 6.0]]


@pytest.mark.parametrize("by", ["remove", "twice", "with", "during"])
def test_a_handle_removes(by):
    x, log = leaf(1.0), []
    y = x * 1.0
    for register in (x.register_hook, y.register_hook, x.register_post_accumulate_grad_hook):
        handle = register(lambda g: log.append(1))
        if by == "with":
            with handle:
                y.backward(retain_graph=True)
            log.pop()
        elif by == "during":
            handle.remove()
            handle = register(lambda g, box=[]: (log.append(1), box and box[0].remove(), None)[2])  # noqa: B006
            handle.remove()
        else:
            handle.remove()
            if by == "twice":
                handle.remove()
    for register in (y.grad_fn.register_hook, y.grad_fn.register_prehook):
        handle = register(lambda *grads: log.append(1))
        handle.remove()
    y.backward()
    assert log == []


def test_a_hook_that_changes_the_hooks():
    x, log = leaf(1.0), []

    def once(g):
        log.append("once")
        handle.remove()
        later.remove()  # runs still in this pass
        x.register_hook(lambda g: log.append("new"))

    handle = x.register_hook(once)
    later = x.register_hook(lambda g: log.append("later"))
    (x * 2.0).backward()
    assert log == ["once", "later"]
    (x * 2.0).backward()
    assert log == ["once", "later", "new"]


@pytest.mark.parametrize(
    "given, error, text",
    [
        (lambda g: 1, TypeError, "to return None or a Tensor"),
        (lambda g: nt.ones(3), RuntimeError, "changed the size of value"),
        (lambda g: nt.ones(2, dtype=nt.float64), RuntimeError, "changed the type of value"),
    ],
)
@pytest.mark.parametrize("where", ["leaf", "tensor", "prehook", "posthook"])
def test_what_a_hook_must_not_give(where, given, error, text):
    x = leaf(1.0, 2.0)
    y = x * 1.0
    if where == "leaf":
        x.register_hook(given)
    elif where == "tensor":
        y.register_hook(given)
    elif where == "prehook":
        y.grad_fn.register_prehook(lambda given_: (given(given_[0]),))
    else:
        y.grad_fn.register_hook(lambda got, given_: (given(got[0]), *got[1:]))
    with pytest.raises(error, match=text):
        y.sum().backward()
    assert x.grad is None


def test_a_wrong_number_of_gradients():
    y = leaf(1.0) * 1.0
    y.grad_fn.register_prehook(lambda given: (given[0], given[0]))
    with pytest.raises(RuntimeError, match="incorrect number of values"):
        y.backward()


def test_a_hook_that_gives_a_gradient_where_there_was_none():
    class Nothing(nt.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1.0

        @staticmethod
        def backward(ctx, grad):
            return None

    x = leaf(1.0, 2.0)
    y = Nothing.apply(x)
    handle = y.grad_fn.register_hook(lambda got, given: (nt.ones(3, 2),))
    y.sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]
    handle.remove()
    for wrong in (nt.ones(3), nt.ones(1), nt.tensor(1.0)):
        with y.grad_fn.register_hook(lambda got, given, wrong=wrong: (wrong,)):
            with pytest.raises(RuntimeError, match="invalid gradient at index 0"):
                y.sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


def test_who_can_have_hooks():
    x = leaf(1.0)
    with pytest.raises(RuntimeError, match="doesn't require gradient"):
        nt.ones(1).register_hook(print)
    with pytest.raises(RuntimeError, match="non-leaf"):
        (x * 2.0).register_post_accumulate_grad_hook(print)
    x.register_post_accumulate_grad_hook(lambda p: 1)
    with pytest.raises(RuntimeError, match="should return None"):
        (x * 2.0).backward()


# what is pruned, recorded, or written


def test_only_what_leads_to_the_inputs_has_its_hooks_run():
    x, w, log = leaf(1.0), leaf(2.0), []
    y, z = x * 2.0, w * 3.0
    for name, t in dict(x=x, w=w, y=y, z=z).items():
        t.register_hook(lambda g, name=name: log.append(name))
    x.register_post_accumulate_grad_hook(lambda p: log.append("never"))
    (g,) = nt.autograd.grad(y * z, x)
    assert log == ["y", "x"] and g.item() == 12.0


def test_a_replaced_gradient_is_what_grad_gives():
    x = leaf(1.0)
    y = x * 2.0
    y.register_hook(lambda g: g * 10.0)
    x.register_hook(lambda g: g + 1.0)
    y.retain_grad()
    assert [g.item() for g in nt.autograd.grad(y * 3.0, (x, y))] == [61.0, 30.0]
    assert y.grad.item() == 30.0 and x.grad is None


def test_hooks_under_create_graph():
    x = leaf(2.0)
    y = x * x
    y.register_hook(lambda g: g * x)  # part of the graph
    y.grad_fn.register_hook(lambda got, given: tuple(g and g * 2.0 for g in got))
    (g,) = nt.autograd.grad(y, x, create_graph=True)
    (h,) = nt.autograd.grad(g, x)
    assert g.item() == pytest.approx(4 * 2.0**2) and h.item() == pytest.approx(16.0)


def test_hooks_stay_with_the_history_they_were_given_to():
    x, seen = leaf(1.0), []
    y = x * 2.0
    y.retain_grad()
    y.register_hook(lambda g: seen.append(("old", g.item())))
    y.mul_(5.0)
    y.register_hook(lambda g: seen.append(("new", g.item())))
    (y * 3.0).backward()
    assert seen == [("new", 3.0), ("old", 15.0)] and y.grad.item() == 3.0


# passes inside of passes


def test_a_hook_that_runs_the_same_graph():
    x, depth = leaf(1.0), []
    y = x * x
    z = y * 2.0

    def again(g):
        if len(depth) < 5:
            depth.append(1)
            z.backward(retain_graph=True)

    y.register_hook(again)
    z.backward(retain_graph=True)
    assert x.grad.item() == 6 * 4.0


def test_a_hook_that_frees_what_comes_after():
    x = leaf(1.0)
    y = x.exp()
    z = y * 2.0
    handle = z.register_hook(lambda g: y.backward())
    with pytest.raises(RuntimeError, match="second time"):
        z.backward()
    assert x.grad.item() == pytest.approx(2.71828)  # of the inner pass
    handle.remove()


def test_a_hook_that_asks_for_gradients():
    x, seen = leaf(3.0), []
    y = x * x

    def ask(g):
        if len(seen) < 4:
            seen.append(0.0)
            seen.append(nt.autograd.grad(y, x, retain_graph=True)[0].item())

    y.register_hook(ask)
    handle = x.register_hook(ask)
    y.backward()
    handle.remove()  # it holds x, and y, that leads to x: see docs/memory.md
    assert x.grad.item() == 6.0 and {*seen} == {0.0, 6.0}


def test_a_hook_that_runs_forever():
    x = leaf(1.0)
    y = x * x
    handle = y.register_hook(lambda g: y.backward(retain_graph=True))
    with pytest.raises(RecursionError):
        y.backward(retain_graph=True)
    handle.remove()
    assert x.grad is None
    y.backward()
    assert x.grad.item() == 2.0


def test_a_hook_that_drops_the_graph():
    made = [leaf(1.0)]
    alive = weakref.ref(made[0])
    made.append(made[0] * 2.0)
    made.append(made[1].exp())
    made[1].register_hook(lambda g: made.clear())
    made[0].register_hook(lambda g: made.clear())
    made[2].backward()
    gc.collect()
    assert alive() is None


# hooks of several tensors


def test_all_of_several_tensors():
    a, b, c, told = leaf(1.0), leaf(2.0), leaf(3.0), []
    handle = graph.register_multi_grad_hook([a, b, c], lambda grads: told.append([g and g.item() for g in grads]))
    (a * b).backward()
    (a * b * c).backward()
    assert told == [[2.0, 1.0, None], [6.0, 3.0, 2.0]]
    nt.autograd.grad(a * b, a)
    assert told[2:] == [[2.0, None, None]]
    handle.remove()
    handle.remove()
    (a * b).backward()
    assert len(told) == 3


def test_any_of_several_tensors():
    a, b, told = leaf(1.0), leaf(2.0), []
    with graph.register_multi_grad_hook((a, b), lambda g: told.append(g.item()), mode="any"):
        (a * 3.0 + b * 3.0).backward()
        (b * 4.0).backward()
    (b * 4.0).backward()
    assert told == [3.0, 4.0]
    with pytest.raises(ValueError, match="one of"):
        graph.register_multi_grad_hook((a, b), print, mode="some")


def test_several_tensors_of_which_one_is_gone():
    a, told = leaf(1.0), []
    c = a * 2.0
    graph.register_multi_grad_hook([c, a], lambda grads: told.append([g is not None for g in grads]))
    del c
    others = [leaf(1.0) * 2.0 for _ in range(100)]
    (a * 3.0).backward()
    assert told == [[False, True]] and others


def test_several_tensors_in_a_pass_inside_of_a_pass():
    a, b, told = leaf(1.0), leaf(2.0), []
    graph.register_multi_grad_hook([a, b], lambda grads: told.append([g.item() for g in grads]))
    inner = a * b * 10.0

    class Inside(nt.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1.0

        @staticmethod
        def backward(ctx, grad):
            inner.backward()
            return grad

    (Inside.apply(a * 1.0) + b).backward()
    assert told == [[20.0, 10.0], [1.0, 1.0]]


def test_several_tensors_after_a_pass_that_failed():
    a, b, told, wrong = leaf(1.0), leaf(2.0), [], []
    graph.register_multi_grad_hook([a, b], lambda grads: told.append(len(grads)))
    handles = [t.register_hook(lambda g: wrong.append(1) or 1 // 0) for t in (a, b)]
    with pytest.raises(ZeroDivisionError):
        (a * b).backward()
    [h.remove() for h in handles]
    (a * b).backward()
    assert told == [2]


# saved values


def test_what_is_saved_goes_through_the_innermost_hooks():
    x, log = leaf(2.0), []

    def hooks(name):
        return graph.saved_tensors_hooks(
            lambda t: log.append(f"pack {name}") or t.item(), lambda v: log.append(f"unpack {name}") or nt.tensor([v])
        )

    with hooks("a"):
        y = x.exp()
        with hooks("b"):
            z = y.tanh()
        z = z.sin()
    w = z.exp()
    assert log == ["pack a", "pack b", "pack a"]
    w.backward()
    assert log[3:] == ["unpack a", "unpack b", "unpack a"]
    plain = leaf(2.0)
    plain.exp().tanh().sin().exp().backward()
    assert x.grad.tolist() == pytest.approx(plain.grad.tolist())


def test_a_pack_hook_that_runs_ops():
    """What it saves itself goes through no hooks, even after hooks of its own."""
    x, w, count = leaf(2.0), leaf(3.0), []

    def pack(t):
        count.append(1)
        with graph.save_on_cpu():
            (w * w).exp()
        (w * w).exp()
        return t

    with graph.saved_tensors_hooks(pack, lambda t: t):
        y = x.exp()
    y.backward()
    assert count == [1] and x.grad.item() == pytest.approx(7.389056)


def test_kept_on_the_cpu_means_kept_from_writes():
    x = leaf(1.0, 2.0)
    y = x * 1.0
    with graph.save_on_cpu():
        z = y * y
    y.mul_(100.0)
    z.sum().backward()
    assert x.grad.tolist() == [2.0, 4.0]


def test_hooks_of_one_saved_value():
    x = leaf(2.0)
    y = x.exp() * x
    y.grad_fn._raw_saved_other.register_hooks(lambda t: t.item(), lambda v: nt.tensor([v]))
    with pytest.raises(RuntimeError, match="already been set"):
        y.grad_fn._raw_saved_other.register_hooks(lambda t: t, lambda t: t)
    assert y.grad_fn._saved_other.tolist() == [2.0]
    y.backward()
    assert x.grad.item() == pytest.approx(3 * 7.389056)


def test_packed_values_have_their_history():
    x = leaf(2.0)
    with graph.saved_tensors_hooks(lambda t: t.item(), lambda v: nt.tensor([v])):
        y = x.exp() * x
    (g,) = nt.autograd.grad(y, x, create_graph=True)
    (h,) = nt.autograd.grad(g, x)
    assert h.item() == pytest.approx(4 * 7.389056)


def test_what_unpacking_must_not_give():
    x = leaf(2.0)
    with graph.saved_tensors_hooks(lambda t: 1, lambda v: v):
        y = x.exp()
    with pytest.raises(TypeError, match="unpack_hook expected to be a Tensor"):
        y.backward()


# errors anywhere leave everything as it was


class Wrong(Exception):
    pass


def fail(*arguments):
    raise Wrong


class Raises(nt.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1.0

    @staticmethod
    def backward(ctx, grad):
        raise Wrong


def in_the_hook_of_a_leaf(x, w, y):
    return [x.register_hook(fail)], y


def in_the_hook_of_a_tensor(x, w, y):
    return [y.register_hook(fail)], y


def before_a_rule(x, w, y):
    return [y.grad_fn.register_prehook(fail)], y


def after_a_rule(x, w, y):
    return [y.grad_fn.register_hook(fail)], y


def before_a_leaf(x, w, y):
    return [y.grad_fn.next_functions[0][0].register_prehook(fail)], y


def of_several_tensors(x, w, y):
    return [graph.register_multi_grad_hook([x, w], fail)], y


def of_any_of_several_tensors(x, w, y):
    return [graph.register_multi_grad_hook([x, y], fail, mode="any")], y


def in_a_rule(x, w, y):
    return [], y + Raises.apply(x)


def in_unpacking(x, w, y):
    with graph.saved_tensors_hooks(lambda t: t, fail):
        return [], y + x.exp()


def in_unpacking_one(x, w, y):
    z = x.exp()
    z.grad_fn._raw_saved_result.register_hooks(lambda t: t, fail)
    return [], y + z


PLACES = [
    in_the_hook_of_a_leaf,
    in_the_hook_of_a_tensor,
    before_a_rule,
    after_a_rule,
    before_a_leaf,
    of_several_tensors,
    of_any_of_several_tensors,
    in_a_rule,
    in_unpacking,
    in_unpacking_one,
]


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
@pytest.mark.filterwarnings("ignore:Using backward")
def test_an_error_leaves_gradients_as_they_were(place, create_graph):
    """And nothing leaks, and the next pass works."""
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    x.grad = nt.tensor([10.0, 20.0])
    kept = x.grad
    y = x * w
    handles, z = place(x, w, y)
    z = (z * w * 0.01).tanh().sum()
    for _ in range(2):
        with pytest.raises(Wrong):
            z.backward(retain_graph=True, create_graph=create_graph)
        assert x.grad is kept and kept.tolist() == [10.0, 20.0] and kept._version == 0 and w.grad is None
        assert nt.is_grad_enabled()
    for handle in handles:
        handle.remove()
    if handles:
        z.backward()
    else:
        (x * w).sum().backward()
    assert x.grad.tolist() != [10.0, 20.0] and w.grad is not None
    if place is not before_a_leaf:
        with pytest.raises(Wrong):
            handles, z = place(x, w, x * w)
            nt.autograd.grad(z.sum(), (x, w))


def test_an_error_after_accumulation():
    """All leaves have got theirs then."""
    x, w = leaf(1.0), leaf(2.0)
    handles = [t.register_post_accumulate_grad_hook(fail) for t in (x, w)]
    with pytest.raises(Wrong):
        (x * w).backward()
    assert (x.grad.item(), w.grad.item()) == (2.0, 1.0)
    [h.remove() for h in handles]


@pytest.mark.parametrize(
    "op", ["x * x", "x.exp()", "x.cumprod(0)", "nt.cat([x, x]).prod()", "x.norm()", "x[[0, 1]] * x"]
)
def test_an_error_in_packing(op):
    x = leaf(1.0, 2.0)
    with graph.saved_tensors_hooks(fail, fail):
        try:
            eval(op, {"x": x, "nt": nt})
        except Wrong:
            pass
    eval(op, {"x": x, "nt": nt}).sum().backward()
    assert x.grad is not None


# the same programs in PyTorch


def chain(L, log):
    x = L.tensor([1.0, 2.0], requires_grad=True)
    y = x * 2.0
    z = y.exp()
    y.retain_grad()
    y.register_hook(lambda g: log.append("y") or g * 2.0)
    y.grad_fn.register_hook(lambda got, given: log.append(("after y", [g is None for g in got], len(given))))
    y.grad_fn.register_prehook(lambda given: log.append("before y") or (given[0] * 0.5,))
    z.register_hook(lambda g: log.append("z"))
    x.register_hook(lambda g: log.append("x") or g * 10.0)
    x.register_post_accumulate_grad_hook(lambda p: log.append(("whole", p.grad is not None)))
    z.sum().backward()
    return [round(v, 2) for t in (x.grad, y.grad) for v in t.tolist()]


def pruned(L, log):
    x, w = (L.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    y, z = x * 2.0, w * 3.0
    for name, t in dict(x=x, w=w, y=y, z=z).items():
        t.register_hook(lambda g, name=name: log.append(name))
    x.register_post_accumulate_grad_hook(lambda p: log.append("never"))
    return [g.tolist() for g in L.autograd.grad((y * z).sum(), (x,))]


def in_place(L, log):
    x = L.tensor([1.0, 2.0], requires_grad=True)
    y = x * 2.0
    y.retain_grad()
    y.register_hook(lambda g: log.append(("old", g.tolist())))
    y.mul_(5.0)
    y.register_hook(lambda g: log.append(("new", g.tolist())))
    (y * 3.0).sum().backward()
    return y.grad.tolist(), x.grad.tolist()


def changed_during(L, log):
    x = L.tensor([1.0], requires_grad=True)

    def once(g):
        log.append("once")
        first.remove()
        second.remove()
        x.register_hook(lambda g: log.append("new"))

    first = x.register_hook(once)
    second = x.register_hook(lambda g: log.append("second"))
    for _ in range(2):
        (x * 2.0).sum().backward()
    return x.grad.tolist()


def several(L, log):
    a, b, c = (L.tensor([float(k)], requires_grad=True) for k in range(1, 4))
    G = L.autograd.graph
    G.register_multi_grad_hook((a, b, c), lambda grads: log.append([g is None for g in grads]))
    G.register_multi_grad_hook((a, b, c), lambda g: log.append("any"), mode="any")
    (a * b).sum().backward()
    (a * b * c).sum().backward()


def packed(L, log):
    G = L.autograd.graph
    x = L.tensor([1.0, 2.0], requires_grad=True)
    with G.saved_tensors_hooks(
        lambda t: (log.append(("pack", t.tolist())), t * 1.0)[1], lambda t: (log.append("unpack"), t)[1]
    ):
        y = x.exp()
        z = y * y
    z.sum().backward()
    return [round(v, 2) for v in x.grad.tolist()]


def wrong_type(L, log):
    x = L.tensor([1.0, 2.0], requires_grad=True)
    x.register_hook(lambda g: g.sum())
    x.sum().backward()


def wrong_count(L, log):
    y = L.tensor([1.0, 2.0], requires_grad=True) * 2.0
    y.grad_fn.register_prehook(lambda given: (given[0], given[0]))
    y.sum().backward()


def multi_error(L, log):
    L.autograd.graph.register_multi_grad_hook((L.ones(1, requires_grad=True),), print, mode="x")


def played(program, L):
    log: list = []
    try:
        return program(L, log), log
    except Exception as error:
        return type(error).__name__, log


@pytest.mark.peer
@pytest.mark.parametrize(
    "program",
    [chain, pruned, in_place, changed_during, several, packed, wrong_type, wrong_count, multi_error],
    ids=lambda program: program.__name__,
)
def test_as_in_pytorch(program):
    torch = pytest.importorskip("torch")
    ours = played(program, nt)
    assert ours == played(program, torch)
