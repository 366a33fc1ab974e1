"""Cycles of Python objects that go through the graph: each is collected, or it is freed by what docs/memory.md says."""

import doctest
import gc
import pathlib
import re
import threading
import weakref

import pytest

import numbatensor as nt
from numbatensor.autograd import graph
from numbatensor.core.memory import state
from numbatensor.memory import memory_stats

MEMORY = pathlib.Path(__file__).parents[1] / "docs" / "memory.md"


class Thing:
    """What a test sees die."""


def leaf():
    return nt.tensor([1.0, 2.0], requires_grad=True)


def holds(cell):
    """A hook that keeps a list alive."""
    return lambda *arguments: (cell, None)[1]


class Keeps(nt.autograd.Function):
    """Keeps what it is given in `Keeps.cell` on its context."""

    @staticmethod
    def forward(ctx, x, cell):
        ctx.cell = cell
        ctx.save_for_backward(x)
        return x * 2.0

    @staticmethod
    def backward(ctx, grad):
        return grad * 2.0, None


class OtherInput(nt.autograd.Function):
    @staticmethod
    def forward(ctx, x, cell):
        ctx.cell = cell
        return x * 2.0

    @staticmethod
    def backward(ctx, grad):
        return grad * 2.0, None


# Each puts what closes the circle into `cell`, which a hook or a context holds.


def its_own_tensor(cell):
    y = leaf() * 2.0
    y.register_hook(holds(cell))
    cell.append(y)


def a_later_tensor(cell):
    y = leaf() * 2.0
    y.register_hook(holds(cell))
    cell.append((y * 3.0).exp())


def a_later_tensor_by_two_ways(cell):
    y = leaf() * 2.0
    y.register_hook(holds(cell))
    cell.append(y.exp() * y.tanh() + y)


def a_view(cell):
    y = leaf() * 2.0
    y.register_hook(holds(cell))
    cell.append(y.view(2, 1)[0])


def its_node(cell):
    node = (leaf() * 2.0).grad_fn
    node.register_hook(holds(cell))
    cell.append(node)


def a_later_node(cell):
    y = leaf() * 2.0
    y.grad_fn.register_prehook(holds(cell))
    cell.append(y.exp().grad_fn)


def its_leaf(cell):
    x = leaf()
    x.register_hook(holds(cell))
    cell.append(x)


def a_leaf_and_post_accumulate(cell):
    x = leaf()
    x.register_post_accumulate_grad_hook(holds(cell))
    (x * 2.0).sum().backward()
    cell.append(x)


def a_tensor_after_the_leaf(cell):
    x = leaf()
    x.register_hook(holds(cell))
    cell.append(x * 2.0)


def a_tensor_of_several_multi_grad_hooks(cell):
    a, b = leaf(), leaf()
    graph.register_multi_grad_hook([a, b], holds(cell))
    cell.append(a)


def metadata(cell):
    y = leaf() * 2.0
    y.grad_fn.metadata["cell"] = cell
    cell.append(y)


def the_output_on_a_context(cell):
    cell.append(Keeps.apply(leaf(), cell))


def the_input_on_a_context(cell):
    x = leaf()
    cell.append((x, Keeps.apply(x.exp(), cell)))


def what_was_made_of_the_output(cell):
    y = OtherInput.apply(leaf(), cell)
    cell.append(y * y)


def a_packed_value(cell):
    x = leaf()
    with graph.saved_tensors_hooks(lambda t: (cell, t), lambda kept: kept[1]):
        cell.append(x.exp())


def unpacking(cell):
    x = leaf()
    with graph.saved_tensors_hooks(lambda t: t, lambda t: (cell, t)[1]):
        cell.append(x.exp())


COLLECTED = [
    its_own_tensor,
    a_later_tensor,
    a_later_tensor_by_two_ways,
    a_view,
    its_node,
    a_later_node,
    its_leaf,
    a_leaf_and_post_accumulate,
    a_tensor_after_the_leaf,
    a_tensor_of_several_multi_grad_hooks,
    metadata,
    the_output_on_a_context,
    the_input_on_a_context,
    what_was_made_of_the_output,
    a_packed_value,
    unpacking,
]


def started(case):
    """A weak reference to what only the cycle keeps alive, and the cell in it."""
    cell, thing = [], Thing()
    cell.append(thing)
    case(cell)
    return weakref.ref(thing), cell


@pytest.mark.parametrize("case", COLLECTED, ids=lambda case: case.__name__)
def test_collected(case):
    alive, cell = started(case)
    gc.collect()
    assert alive() is not None, "collected while in use"
    del cell
    gc.collect()
    memory_stats()
    assert alive() is None


@pytest.mark.parametrize("case", COLLECTED, ids=lambda case: case.__name__)
def test_not_collected_while_part_of_it_is_in_use(case):
    alive, cell = started(case)
    kept = cell[-1]
    del cell
    for _ in range(3):
        gc.collect()
        memory_stats()
    assert alive() is not None
    y = kept[-1] if isinstance(kept, tuple) else kept
    if isinstance(y, nt.Tensor) and case is not a_leaf_and_post_accumulate:
        y.sum().backward()  # hooks, contexts and packed values are whole
    del kept, y
    gc.collect()
    memory_stats()
    assert alive() is None


# what several boxes share is not searched


def shared_by_tensor_and_node(cell):
    y = leaf() * 2.0
    handle = y.grad_fn.register_hook(holds(cell))
    cell.extend((y, y.grad_fn))
    return handle


def shared_by_two_tensors(cell):
    y = leaf() * 2.0
    handle = y.register_hook(holds(cell))
    cell.extend((y, y * 3.0))
    return handle


def hooks_in_a_row(cell):
    y = leaf() * 2.0
    z = y * 3.0
    handle = y.register_hook(holds([y, cell]))
    z.register_hook(holds([z]))
    cell.extend((y, z))
    return handle


def shared_by_a_leaf(cell):
    x = leaf()
    handle = x.register_hook(holds(cell))
    cell.extend((x, x * 2.0))
    return handle


@pytest.mark.parametrize(
    "case, freed_by",
    [
        (case, way)
        for case in (shared_by_tensor_and_node, shared_by_two_tensors, hooks_in_a_row, shared_by_a_leaf)
        for way in ("backward", "del", "remove")
        if (case, way) != (shared_by_a_leaf, "backward") and (case, way) != (hooks_in_a_row, "del")
    ],
)
def test_shared_by_several_boxes(case, freed_by):
    alive, cell = started(lambda cell: cell.append(case(cell)))
    handle = cell.pop()
    if freed_by == "remove":
        handle.remove()
    if freed_by == "backward":
        cell[-1 if case is hooks_in_a_row else 1].sum().backward()
    if freed_by == "del":
        del cell[-1]
    del cell, handle
    gc.collect()
    memory_stats()
    assert alive() is None


@pytest.mark.filterwarnings("ignore:Using backward")
def test_gradients_with_a_graph_are_freed_with_grad():
    x = leaf()
    alive = weakref.ref(x)
    (x * x * x).sum().backward(create_graph=True)
    x.grad = None
    del x
    assert alive() is None


def test_a_finalizer_may_use_the_graph():
    """What it brings back to life stays whole."""
    back, told = [], []

    class Holder:
        def __del__(self):
            back.append(self.y)

    def start(cell):
        cell[0].y = leaf() * 2.0
        cell[0].y.register_hook(lambda grad: told.append(cell[0]))

    start([Holder()])
    gc.collect()
    gc.collect()
    assert len(back) == 1
    back[0].sum().backward()
    assert len(told) == 1
    back.clear()
    told.clear()
    gc.collect()


def test_a_finalizer_may_give_the_graph_another_owner():
    back, told = [], []

    class Holder:
        def __del__(self):
            back.append(self.y * 3.0)

    def start(cell):
        cell[0].y = leaf() * 2.0
        cell[0].y.register_hook(lambda grad: told.append(len(cell)))

    start([Holder()])
    gc.collect()
    back[0].sum().backward()
    assert told == [1]
    back.clear()
    gc.collect()


def test_a_weak_reference_calls_back_while_the_graph_is_collected():
    seen = []
    cell = [Thing()]
    y = leaf() * 2.0
    y.register_hook(holds(cell))
    cell[0].y = y
    node = weakref.ref(y.grad_fn)
    reference = weakref.ref(cell[0], lambda _: seen.append((node(), gc.collect())))
    del cell, y
    gc.collect()
    memory_stats()
    assert len(seen) == 1 and reference() is None


def test_the_node_of_a_collected_leaf_has_no_variable():
    y = leaf()
    y.register_hook(lambda grad: None)
    x = leaf()
    later = x * 2.0
    x.me = x
    del x
    gc.collect()
    assert later.grad_fn.next_functions[0][0].variable is None
    later.sum().backward()


def test_a_box_that_dies_is_not_given_again():
    y = leaf() * 2.0
    seen = []
    reference = weakref.ref(y.grad_fn, lambda _: seen.append(y.grad_fn.name()))
    gc.collect()
    assert seen == ["MulBackward0"] and reference() is None

    class Late:
        def __del__(self):
            seen.append(y.grad_fn.name())

    y.grad_fn.note = Late()
    gc.collect()
    assert seen == ["MulBackward0"] * 2


def test_a_box_that_waits_to_be_freed_is_not_given_again():
    """Deep in a chain of objects that die, the interpreter puts some aside, and frees them later."""
    views, seen = [], []

    class Late(int):
        __slots__ = ()

        def __del__(self):
            seen.append(views[self]._base.tolist())

    def work():
        chain = None
        for k in range(4000):
            x = nt.tensor([float(k)])
            views.append(x[:])
            chain = [Late(k), x, chain]
            del x
        del chain

    before = threading.stack_size(1 << 19)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert sorted(seen) == [[float(k)] for k in range(4000)]
    assert [v._base.tolist() for v in views] == [[float(k)] for k in range(4000)]


def test_worker_threads_drop_what_their_graphs_let_go():
    """Though the interpreter would do that in its main thread, which waits."""
    most = []

    def work():
        x = leaf()
        for _ in range(200):
            cell: list = []
            y = OtherInput.apply(x, [x.exp()])
            y.register_hook(holds(cell))
            y.sum().backward()
            most.append(int(state[0]["tensors"]))
            del y

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert max(most) < most[0] + 20


def test_the_table_lists_what_is_tested():
    """Rows of the table in docs/memory.md name the tests' cases."""
    named = set(re.findall(r"`(\w+)`\s*\|?$", MEMORY.read_text(), re.MULTILINE))
    cases = {case.__name__ for case in COLLECTED} | {
        *("shared_by_tensor_and_node", "shared_by_two_tensors", "hooks_in_a_row", "shared_by_a_leaf")
    }
    assert cases <= named


def test_the_examples_do_what_they_show():
    blocks = re.findall(r"```python\n(.*?)```", MEMORY.read_text(), re.DOTALL)
    examples = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "memory", str(MEMORY), 0)
    results = doctest.DocTestRunner().run(examples)
    examples.globs.clear()
    assert results.attempted > 8 and results.failed == 0
