"""The engine: one walk that counts each node's uses, one that runs every node after all its uses. No recursion.

What a pass gives to leaves, it gives at its end: a failure before leaves every `.grad` as it was.
"""

from numba import njit

from numbatensor.core.accumulation import accumulate, fitted, only_owner
from numbatensor.core.compiler import attempt, call, external, fail, native, symbol
from numbatensor.core.conversions import empty_on
from numbatensor.core.custom_gradients import custom_gradients
from numbatensor.core.devices import FILL_THERE, there
from numbatensor.core.graph import (
    ACCUMULATED,
    EDGE,
    FIRST,
    FREED,
    LEAF,
    POSTHOOKS,
    PREHOOKS,
    RETAINS,
    TENSOR_HOOKS,
    UNPACKED,
    check,
    node_of,
    output_of,
    release_saved,
    settle,
)
from numbatensor.core.memory import decref, free, incref, load, malloc, memset, store
from numbatensor.core.modes import AUTOCAST, NO_GRAD, anomaly, replace
from numbatensor.core.promotion import put_number
from numbatensor.core.python import call_python, gil_held, restore_thread, save_thread
from numbatensor.core.records import (
    INPUTS,
    OPERANDS,
    call_at,
    edge_at,
    new_call,
    new_frame,
    node_at,
    op_at,
    output_at,
    tensor_at,
    visit_at,
)
from numbatensor.core.rules import (
    CUSTOM,
    KERNEL,
    NONE,
    PYTHON,
    SPLIT,
    recordable,
    run_fused_rule,
    run_rule_natively,
    run_rule_recorded,
    split_part,
)
from numbatensor.core.table import FREED_GRAPH, NO_GRAD_FN
from numbatensor.core.tensors import FLOAT16, same_shape
from numbatensor.core.visits import discover, find_visit, leave, pop_ready, prune, push_ready, start_call

sched_yield = external("sched_yield", 0, small=True)


@native
def deliver(call_address, node, output_nr, grad):
    """Add to the gradient that a node has got so far in this pass. Takes the reference."""
    c = call_at(call_address)
    v = find_visit(c, call_address, node)
    if v == 0 or (c.pruned and visit_at(v).needed | visit_at(v).captured == 0):
        decref(grad)
        return 0
    output, g = output_at(output_of(node, output_nr)), tensor_at(grad)
    if output.dtype != g.dtype or output.device != g.device or not same_shape(output, g):
        grad = fitted(output_of(node, output_nr), grad)
    slot = visit_at(v).grads + 8 * output_nr
    old = load(slot)
    if old == 0:
        store(slot, grad)
    elif only_owner(old) and c.create_graph == 0:
        failed = attempt(symbol("add_in_place"), old, grad)
        decref(grad)
        if failed == -1:
            fail()
    else:
        made = attempt(symbol("add_tensors"), old, grad)
        decref(grad)
        if made == -1:
            fail()
        decref(old)
        store(slot, made)
    return 0


@njit
def wanted(c, call_address, parent):
    """Whether a gradient that flows to a node is of use."""
    if parent == 0:
        return False
    if c.pruned == 0:
        return True
    v = find_visit(c, call_address, parent)
    return v != 0 and visit_at(v).needed | visit_at(v).captured != 0


@njit
def keep(visit):
    """Note the gradients of a node that somebody asked for: those of captured nodes, and of retained outputs."""
    for k in range(node_at(visit.node).outputs):
        if visit.captured or output_at(output_of(visit.node, k)).retains:
            g = load(visit.grads + 8 * k)
            incref(g)
            decref(load(visit.kept + 8 * k))
            store(visit.kept + 8 * k, g)


@njit
def reads_as_tensors(n, o):
    """Whether the rules of a node's inputs are programs of ops; they are written down at their first use."""
    for i in range(n.inputs):
        if edge_at(n.edges + i * EDGE).node and not recordable(o, i):
            if o.again[i] == 0:
                call_python("trace_again", n.op)
            if not recordable(o, i):
                return False
    return True


@native
def run_custom_rule(call_address, v):
    """Run the backward of a node of a custom op, and send on what it gives."""
    c, visit = call_at(call_address), visit_at(v)
    n = node_at(visit.node)
    needs = malloc(16 * n.inputs + 8)
    results = needs + 8 * n.inputs
    for i in range(n.inputs):
        store(needs + 8 * i, 1 if wanted(c, call_address, edge_at(n.edges + i * EDGE).node) else 0)
    failed = attempt(symbol("custom_gradients"), visit.node, visit.grads, needs, results) == -1
    for i in range(n.inputs):
        e, grad = edge_at(n.edges + i * EDGE), load(results + 8 * i)
        if failed or e.node == 0:
            decref(grad)
        elif grad:
            failed = attempt(symbol("deliver"), call_address, e.node, e.output_nr, grad) == -1
    free(needs)
    if failed:
        fail()
    return 0


@native
def run_fused(call_address, v):
    """Send on the gradients that one kernel finds together, where several are wanted; gives which inputs' they are, as bits."""
    c, visit = call_at(call_address), visit_at(v)
    n = node_at(visit.node)
    o, which, count, k = op_at(n.op), 0, 0, 0
    for i in range(n.inputs):
        fits = o.rule_kind[i] == KERNEL and count + 1 + n.saved < OPERANDS
        if fits and wanted(c, call_address, edge_at(n.edges + i * EDGE).node):
            which |= 1 << i
            count += 1
    if count < 2:
        return 0
    results = new_frame()
    memset(results, 0, 8 * count)
    failed = attempt(symbol("run_fused_rule"), visit.node, which, visit.grad, results) == -1
    for i in range(n.inputs):
        if which >> i & 1:
            e, grad = edge_at(n.edges + i * EDGE), load(results + 8 * k)
            k += 1
            if failed:
                decref(grad)
            else:
                failed = attempt(symbol("deliver"), call_address, e.node, e.output_nr, grad) == -1
    if failed:
        fail()
    return which


@native
def step(call_address, v):
    """Send a node's gradient on to its inputs."""
    c, visit = call_at(call_address), visit_at(v)
    node = visit.node
    n = node_at(node)
    given = visit.grad != 0
    for k in range(n.outputs if n.outputs > 1 else 0):
        given |= load(visit.grads + 8 * k) != 0
    if not given:
        return 0
    if n.slow & TENSOR_HOOKS:
        call_python("run_tensor_hooks", node, call_address)
    if visit.captured | n.slow & RETAINS:
        keep(visit)
    if c.pruned and visit.needed == 0:
        return 0
    if n.kind == FREED:
        call_python("complain", FREED_GRAPH, 0, 0, 0)
    if n.slow & PREHOOKS:
        call_python("run_prehooks", node, call_address)
    o = op_at(n.op)
    python, split, custom = c.watch | n.slow & POSTHOOKS != 0, o.rule_kind[0] == SPLIT, o.rule_kind[0] == CUSTOM
    python |= c.create_graph and split | custom | n.slow & UNPACKED
    for i in range(0 if split | custom else n.inputs):
        python |= i >= INPUTS or (o.rule_kind[i] == PYTHON and edge_at(n.edges + i * EDGE).node != 0)
    if c.create_graph and not python:
        python = not reads_as_tensors(n, o)
    if not python:
        if n.slow & UNPACKED:
            call_python("fill_slots", node)
        for k in range(n.saved):
            check(node, k)
    if python:
        call_python("run_rule", node, call_address)
    elif split:
        start = 0
        for i in range(n.inputs):
            e, length = edge_at(n.edges + i * EDGE), load(n.attributes + 8 * (2 + i))
            if wanted(c, call_address, e.node):
                part = split_part(visit.grad, load(n.attributes), start, length, load(n.attributes + 8))
                deliver(call_address, e.node, e.output_nr, part)
            start += length
    elif custom:
        run_custom_rule(call_address, v)
    else:
        fused = (
            o.fused
            and c.create_graph == 0
            and tensor_at(visit.grad).device == 0
            and tensor_at(visit.grad).dtype < FLOAT16
        )
        done = run_fused(call_address, v) if fused else 0
        for i in range(n.inputs):
            e = edge_at(n.edges + i * EDGE)
            if o.rule_kind[i] != NONE and done >> i & 1 == 0 and wanted(c, call_address, e.node):
                if c.create_graph:
                    grad = run_rule_recorded(node, i, visit.grad)
                else:
                    grad = run_rule_natively(node, i, visit.grad)
                deliver(call_address, e.node, e.output_nr, grad)
    if n.slow & UNPACKED and not python:
        call_python("empty_slots", node)
    if c.retain == 0 and n.saved:
        release_saved(n)
        n.kind = FREED
        if n.slow & ~RETAINS:
            call_python("forget_hooks", node)
    return 0


@native
def walk(call_address):
    """Run every node after all its uses."""
    c = call_at(call_address)
    while c.ready:
        v = pop_ready(c)
        visit = visit_at(v)
        n = node_at(visit.node)
        if n.kind == LEAF:
            continue
        if c.pruned == 0 or visit.needed | visit.captured:
            step(call_address, v)
        for i in range(n.inputs):
            parent = edge_at(n.edges + i * EDGE).node
            if parent:
                p = find_visit(c, call_address, parent)
                visit_at(p).pending -= 1
                if visit_at(p).pending == 0:
                    if node_at(parent).kind != LEAF:
                        push_ready(c, call_address, p)
        for k in range(n.outputs):
            decref(load(visit.grads + 8 * k))
            store(visit.grads + 8 * k, 0)
    return 0


@native
def visit_leaves(call_address):
    """Run the hooks of the leaves that got a gradient, and note what is asked for."""
    c = call_at(call_address)
    v = c.visits
    while v:
        visit = visit_at(v)
        n = node_at(visit.node)
        if n.kind == LEAF and visit.grad and visit.call:
            if n.slow & TENSOR_HOOKS:
                call_python("run_tensor_hooks", visit.node, call_address)
            if c.accumulate and n.slow & PREHOOKS:
                call_python("run_prehooks", visit.node, call_address)
            if visit.captured or n.slow & POSTHOOKS:
                incref(visit.grad)
                visit.keep = visit.grad
        v = visit.chain
    return 0


@native
def give(call_address):
    """Add what reached the leaves, and what is retained, to `.grad`; then run the hooks that come after."""
    c = call_at(call_address)
    after = 0
    v = c.visits
    while v:
        visit = visit_at(v)
        n = node_at(visit.node)
        if visit.call == 0:
            pass
        elif n.kind == LEAF:
            if c.accumulate and visit.grad and (c.pruned == 0 or visit.captured):
                grad = visit.grad
                visit.grad = 0
                accumulate(visit.node, visit.node + FIRST, grad, c.create_graph)
                after |= n.slow
        elif n.slow & RETAINS:
            for k in range(n.outputs):
                grad, output = load(visit.kept + 8 * k), output_of(visit.node, k)
                if grad and output_at(output).retains:
                    incref(grad)
                    accumulate(visit.node, output, grad, c.create_graph)
        v = visit.chain
    v = c.visits if after & (POSTHOOKS | ACCUMULATED) else 0
    while v:
        visit = visit_at(v)
        n = node_at(visit.node)
        if visit.call and n.kind == LEAF and n.slow & (POSTHOOKS | ACCUMULATED):
            call_python("run_posthooks", visit.node, call_address)
        v = visit.chain
    return 0


@native
def hold_graph(call_address, roots, count):
    """Hold the graph of all roots (an array of nodes), waiting for other threads' passes over it to end."""
    while True:
        free_way = 1
        for k in range(count):
            if free_way:
                free_way = discover(call_address, load(roots + 8 * k))
        if free_way:
            return 0
        leave(call_address)
        if gil_held():
            thread = save_thread()
            sched_yield()
            restore_thread(thread)
        else:
            sched_yield()


@njit
def list_roots(c, call_address, roots, count):
    """The nodes that nothing leads to are ready."""
    for k in range(count):
        v = find_visit(c, call_address, load(roots + 8 * k))
        visit = visit_at(v)
        if visit.pending == 0 and visit.left == 0:
            visit.left = 1
            push_ready(c, call_address, v)


@native
def root_node(root):
    """The node that a root's gradient enters."""
    settle(root)
    node = node_of(root)
    if node == 0:
        call_python("complain", NO_GRAD_FN, 0, 0, 0)
    return node


@native
def run_pass(call_address, roots, seeds, nodes, count, captured, asked):
    """The pass itself, once the nodes of the roots are known."""
    c = call_at(call_address)
    hold_graph(call_address, nodes, count)
    for k in range(asked):
        v = find_visit(c, call_address, load(captured + 8 * k)) if load(captured + 8 * k) else 0
        if v:
            visit_at(v).captured = 1
    if c.pruned:
        prune(call_address)
    list_roots(c, call_address, nodes, count)
    for k in range(count):
        seed = load(seeds + 8 * k)
        incref(seed)
        deliver(call_address, load(nodes + 8 * k), tensor_at(load(roots + 8 * k)).output_nr, seed)
    walk(call_address)
    visit_leaves(call_address)
    return give(call_address)


@native
def backward_many(call_address, roots, seeds, count, captured, asked):
    """One pass from an array of tensors with an array of seeds, to an array of captured nodes; its visits stay, for `leave`."""
    nodes = malloc(8 * count + 8)
    for k in range(count):
        node = attempt(symbol("root_node"), load(roots + 8 * k))
        if node == -1:
            free(nodes)
            fail()
        store(nodes + 8 * k, node)
    # the pass runs in the dtypes that the forward pass had
    before = replace(NO_GRAD | AUTOCAST, 0 if call_at(call_address).create_graph else NO_GRAD)
    failed = attempt(symbol("run_pass"), call_address, roots, seeds, nodes, count, captured, asked) == -1
    replace(NO_GRAD | AUTOCAST, before)
    free(nodes)
    if failed:
        fail()
    return 0


@native
def backward_from(root):
    """Add the gradients of a tensor of one element to the `.grad` of the leaves that it depends on."""
    x = tensor_at(root)
    call_record, words = new_call(), new_frame()
    put_number(words, x.dtype, 2, 1)
    seed = empty_on(x.device, root, x.dtype)
    if x.device:
        call(there(FILL_THERE), seed, load(words))
    else:
        store(tensor_at(seed).data, load(words))
    start_call(call_record, 0, 0, 1, 0, anomaly())
    store(words, root)
    store(words + 8, seed)
    incref(root)
    failed = attempt(symbol("backward_many"), call_record, words, words + 8, 1, 0, 0) == -1
    leave(call_record)
    decref(seed)
    decref(root)
    if failed:
        fail()
    return 0


assert run_fused_rule and run_pass and root_node and custom_gradients and deliver  # reached through their symbols
