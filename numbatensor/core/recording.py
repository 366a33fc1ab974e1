"""How the result of an op becomes part of the graph."""

from numba import njit

from numbatensor.core.compiler import attempt, fail, native, symbol
from numbatensor.core.graph import (
    ATTRIBUTE,
    NATIVE,
    NUMBER,
    SAVED,
    attach,
    keep_attributes,
    link,
    needs_grad,
    new_node,
    save,
    settle,
)
from numbatensor.core.halves import computed
from numbatensor.core.memory import decref
from numbatensor.core.modes import grad_enabled, inference_used, noticed
from numbatensor.core.promotion import put_number
from numbatensor.core.python import call_python
from numbatensor.core.records import SIZE, arguments_at, node_at, op_at, saved_at, storage_at, tensor_at
from numbatensor.core.table import INFERENCE_SAVE
from numbatensor.core.tensors import FLOAT32, itemsize_of


@njit
def told(node):
    """A new node, once Python has noticed it where it wants to; takes and gives the reference."""
    if noticed() and attempt(symbol("notice"), node) == -1:
        decref(node)
        fail()
    return node


@native
def notice(node):
    """Tell Python of a new node: it notes a traceback, or sends what is saved through hooks."""
    return call_python("notice_node", node)


@native
def check_saves(op, arguments):
    """Fail where the wanted rules would save a tensor of inference mode."""
    o, a = op_at(op), arguments_at(arguments)
    wanted = 0
    for k in range(o.tensors):
        if a.tensors[k] and o.rule_kind[k] and needs_grad(tensor_at(a.tensors[k])):
            wanted |= o.saves[k]
    for k in range(o.tensors):
        t = a.tensors[k]
        if t and wanted >> (k + 1) & 1 and storage_at(tensor_at(t).storage).inference:
            call_python("complain", INFERENCE_SAVE, 0, 0, 0)
    return 0


@native
def settle_all(op, arguments):
    """Make the arguments ready to be recorded, before anything is written."""
    o, a = op_at(op), arguments_at(arguments)
    for k in range(o.tensors):
        if a.tensors[k] and o.rule_kind[k]:
            settle(a.tensors[k])
    if inference_used():
        check_saves(op, arguments)
    return 0


@native
def record(op, out, arguments, dtype, in_place):
    """Link `out` to the arguments, and save what the wanted rules read. `in_place`: slot of the argument that was overwritten."""
    o, a = op_at(op), arguments_at(arguments)
    wanted = 0
    for k in range(o.tensors):
        t = a.tensors[k]
        if t and needs_grad(tensor_at(t)):
            wanted |= o.saves[k]
    count = 0
    for k in range(o.operands + 1):
        count += wanted >> k & 1
    node = new_node(NATIVE, op, o.tensors, count, 0, out)
    for k in range(o.tensors):
        if o.rule_kind[k]:
            link(node, k, a.tensors[k])
    slot = 0
    for k in range(o.operands + 1):
        if wanted >> k & 1:
            if k == 0:
                save(node, slot, out, 0, storage_at(tensor_at(out).storage).version)
            elif a.tensors[k - 1]:
                t = a.tensors[k - 1]
                save(node, slot, t, k, storage_at(tensor_at(t).storage).version)
            else:
                address = node_at(node).saves + slot * SAVED
                s = saved_at(address)
                kind = computed(dtype)
                s.storage, s.data, s.dtype, s.itemsize = 0, address + NUMBER, kind, itemsize_of(kind)
                s.ndim, s.numel, s.contiguous, s.which, s.checksum = 0, 1, 1, k, 0
                put_number(address + NUMBER, kind, a.kinds[k - 1], a.numbers[k - 1])
            slot += 1
    return told(node)


@njit
def reads(o, a, k):
    """Whether a wanted rule reads argument k."""
    for i in range(o.tensors):
        if a.tensors[i] and needs_grad(tensor_at(a.tensors[i])) and o.saves[i] >> (k + 1) & 1:
            return True
    return False


@njit
def wants_record(o, a, out):
    """Whether a result becomes part of the graph."""
    if tensor_at(out).dtype < FLOAT32 or not grad_enabled():
        return False
    for k in range(o.tensors):
        if a.tensors[k] and needs_grad(tensor_at(a.tensors[k])) and o.rule_kind[k]:
            return True
    return False


@native
def record_node(op, out, arguments):
    """A node for the result of an op that is not pointwise: saved tensors, and the attributes that the wanted rules read."""
    o, a = op_at(op), arguments_at(arguments)
    settle_all(op, arguments)
    wanted = 0
    for k in range(o.tensors):
        if a.tensors[k] and o.rule_kind[k] and needs_grad(tensor_at(a.tensors[k])):
            wanted |= o.saves[k]
    count, attributes = wanted & 1, wanted >> SIZE
    for k in range(o.operands):
        if wanted >> (k + 1) & 1:
            if a.tensors[k]:
                count += 1
            else:
                attributes = 1
    words = 0
    if attributes:
        words = (o.operands + 2) * ATTRIBUTE // 8 + a.room + tensor_at(a.tensors[0]).ndim
    node = new_node(NATIVE, op, o.tensors, count, words, out)
    for k in range(o.tensors):
        if o.rule_kind[k]:
            link(node, k, a.tensors[k])
    slot = 0
    for k in range(o.operands + 1):
        if wanted >> k & 1:
            t = out
            if k:
                t = a.tensors[k - 1]
            if t:
                save(node, slot, t, k, storage_at(tensor_at(t).storage).version)
                slot += 1
    if attributes:
        x, y = tensor_at(a.tensors[0]), tensor_at(out)
        keep_attributes(node, a, o.operands, x, x.numel / y.numel if y.numel else 0.0)
    return told(node)


@native
def record_call(op, out, arguments):
    """Give the result of an op that is not pointwise its node."""
    attach(out, record_node(op, out, arguments))
    return out


assert notice  # reached through its symbol
