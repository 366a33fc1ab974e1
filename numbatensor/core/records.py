"""The layout of storages, tensors, nodes, op rows and frames in memory, declared once as NumPy dtypes.

Compiled code sees a record through the intrinsics below (``tensor_at(address).ndim`` is one load); Python sees the same
memory through :func:`view_record`, for ``grad_fn``, error messages and tests.
"""

import ctypes

import numpy as np
from llvmlite import ir
from numba import from_dtype, types
from numba.extending import intrinsic

from kernels_cpu import pointers

RANK = 12  # most dimensions a tensor can have
OPERANDS = 8  # most operands of one kernel, the output included
INPUTS = 6  # most inputs of a native op that have a rule
LAYOUT = 3  # the version of this file: compiled code of another layout must not link

# The first six words of every counted block are numba's MemInfo, so that compiled user code can own a Tensor.
header = [(name, "i8") for name in ("refcount", "destructor", "info", "payload", "size", "allocator")]
HEADER = 48


def words(*names):
    return [(name, "i8") for name in names]


Block = np.dtype(header)

# `owner` is a handle of the Python object whose memory this is; `aliases` counts the NumPy arrays that share the memory now;
# `writer`, `code` and `at` say who wrote last: op row, code object, instruction. `log`, under `log_lock`: what was written while
# something was saved (see write_log.py), or 0. `inference`: made in inference mode. `meminfo`: numba's block whose memory this is, or 0.
# `device`: where the memory is (0 the CPU, k + 1 the CUDA device k). `stream`: the number of the stream in whose order it is given back,
# and from bit USERS on a bit for each other stream that has worked with it.
Storage = np.dtype(
    header
    + words("version", "data", "nbytes", "device", "owner", "aliases", "writer", "code", "at", "log", "log_lock")
    + words("inference", "meminfo", "stream")
)

# `node` and `output_nr`: where this tensor's gradient comes from; a leaf's node holds its `.grad`.
# `base`: the tensor this is a view of. `seen`: the storage's version for which a view's node is right.
# `restriction`: why a view must not be written in place (0: it may). `device`: the storage's.
Tensor = np.dtype(
    header
    + words(
        "storage",
        "node",
        "output_nr",
        "data",
        "dtype",
        "itemsize",
        "ndim",
        "numel",
        "contiguous",
        "requires_grad",
        "base",
        "seen",
        "restriction",
        "box",
        "device",
    )
    + [("shape", "i8", RANK), ("strides", "i8", RANK)]
)

# What a node knows of one of its outputs. `grad`: the gradient that is kept, of a leaf or where the output `retains` it.
Output = np.dtype(words("retains", "grad", "dtype", "itemsize", "device", "ndim") + [("shape", "i8", RANK)])

# `kind`: LEAF, NATIVE, FREED. `edges`, `saves`, `attributes`, `more`: addresses of what follows in the same block; `more` has the
# outputs after the first, which ends this record. `visit`: this node's place in the backward pass that runs now. `box`: the
# Python object that shows the node, not owned. `state`: handle of what its Python rule needs; `extras`: of its hooks and metadata;
# `slow`: which of these the engine must ask (see `core/graph.py`). `variable`: of a leaf, its tensor, not owned. `found`: how
# many of its owners a garbage collection has found.
Node = np.dtype(
    header
    + words(
        "kind",
        "op",
        "inputs",
        "saved",
        "outputs",
        "edges",
        "saves",
        "attributes",
        "more",
        "lock",
        "visit",
        "sequence",
        "next_free",
        "found",
        "state",
        "extras",
        "slow",
        "box",
        "variable",
        "code",
        "at",
    )
    + [(name, *field) for name, *field in Output.descr]
)

# Of one differentiable input: the node its gradient flows to, and which output of that node it is.
Edge = np.dtype(words("node", "output_nr"))

# A saved value: a storage at a version, and geometry; or, where `storage` is 0, the number in `number`.
Saved = np.dtype(
    words(
        "storage", "version", "data", "dtype", "itemsize", "ndim", "numel", "contiguous", "which", "checksum", "number"
    )
    + [("shape", "i8", RANK), ("strides", "i8", RANK)]
)

# What a node keeps of one argument that is no tensor: a number, or a list whose `length` words start at address `value`.
Attribute = np.dtype(words("kind", "value", "length"))

# A row of the dispatch table: an op.
# `run`: compiled code ``run(op, arguments, out)`` that gives a new tensor, unrecorded; 0 until it is first used.
# `operands`: how many arguments, of which the first `tensors` can be tensors and the first `required` have no default.
# `result`: 0 the compute dtype, else 1 + the dtype. `promotes`: integers compute in float. `masks`: bit mask of the operands
# that are bool. `dtypes`: bit mask of the dtypes that the op accepts. `cost`: of an element, an addition's being 1.
# `trait`: of a view, that its elements may name one place in memory; of a reduction, that it needs an element; of a pointwise op,
# what its second operand must not be where it is an integer (`DIVIDES`: zero; `RAISES`: negative); of a structured op, that it can write in place.
# `fixed_kernel[k]`: of a pointwise op of two operands, the kernels whose operand k is one value for all elements.
# `rule_kind[i]`: how the gradient of input i is found; `rule[i]`: kernels, by dtype; `program[i]`: address of a program; `again[i]`:
# of the program that is run where its result is part of a graph (0: not written down yet, -1: Python runs the rule).
# `fused`: address of kernels, by the inputs (as bits) whose gradients they find together, and by dtype; 0 where there are none.
# `partial`, `accumulator`, `outcome`: of a reduction, by dtype, the dtypes in which a block, the whole and the result are kept.
# `saves[i]`: what the rule of input i reads: bit 0 the output, bit k argument k, bits SIZE and COUNT the first input's shape
# and how many of its elements make one of the output's.
# `halves`: whether the op's code takes float16 and bfloat16, or is given float32 (see `core/table.py`).
# `autocast`: what the op is run in under autocast (see core/autocast.py).
# `accepts`, `names`, `aliases`: of each argument, bit mask of the kinds of objects it can be, and its names as keyword.
Op = np.dtype(
    header
    + words("index", "kind", "run", "operands", "tensors", "required", "result", "promotes", "masks", "dtypes", "cost")
    + words("trait", "fused", "halves", "autocast")
    + [
        ("kernel", "i8", 16),
        ("fixed_kernel", "i8", (3, 16)),
        ("rule", "i8", (INPUTS, 16)),
        ("rule_kind", "i8", INPUTS),
        ("saves", "i8", INPUTS),
        ("program", "i8", INPUTS),
        ("again", "i8", INPUTS),
        ("partial", "i8", 16),
        ("accumulator", "i8", 16),
        ("outcome", "i8", 16),
    ]
    + [(name, "i8", OPERANDS) for name in ("accepts", "names", "aliases", "default_kinds", "default_numbers")]
)
SIZE, COUNT = OPERANDS + 1, OPERANDS + 2
POINTWISE, STRUCTURED, VIEW = range(3)  # kinds of op

# A custom op for the types of its arguments: a row, which its nodes name as their op, and what calls need. `forward`, `backward`: code
# ``(words, results)`` (see custom_ops.py); `backward` is 0 until it is first used. `plan`: address of a word for each parameter, what
# it is (as in Arguments); one for each, whether it is saved; one for each output, whether it is float; one for each, whether it is saved.
Custom = np.dtype(
    [(name, *field) for name, *field in Op.descr]
    + words("forward", "backward", "parameters", "outputs", "plan", "differentiable", "several", "in_place", "nogil")
)

# An instruction of a rule's program: an op, and where each of its arguments comes from.
Source = np.dtype(words("origin", "value", "kind"))
Instruction = np.dtype(words("op", "count") + [("sources", Source, OPERANDS)])

# One kernel call: addresses and strides (bytes) of the operands, the output first, over a common shape. `outputs`: how many of them are
# written; where several are, they are new and contiguous. `halves`: four bits an operand, the dtype where that is float16 or bfloat16, which
# are brought into blocks of float32. `op` and `dtype`: where a
# variant of the kernel can be had (0: nowhere) whose operand `fixed` is one value for a row.
Frame = np.dtype(
    words("ndim", "operands", "outputs", "numel", "kernel", "op", "dtype", "fixed", "halves")
    + [
        ("shape", "i8", RANK),
        ("pointers", "i8", OPERANDS),
        ("itemsizes", "i8", OPERANDS),
        ("strides", "i8", (OPERANDS, RANK)),
        ("numbers", "i8", OPERANDS),
        ("index", "i8", RANK),
        ("scratch", "i8", OPERANDS),
        ("filled", "i8", OPERANDS),
    ]
)

# The arguments of one op. `kinds`: 0 a tensor, by address; 1 bool, 2 int and 3 float (its bits), in `numbers`; 4 None;
# 5 a list of ints: `lengths` of them, in `lists` from place `numbers` on; `room` is how much of `lists` is taken.
Arguments = np.dtype(
    words("count", "room")
    + [(name, "i8", OPERANDS) for name in ("tensors", "kinds", "numbers", "lengths")]
    + [("lists", "i8", 6 * RANK)]
)

# One node's place in one backward pass. `grads`: address of the gradients of its outputs, which is `grad`'s where there is one output;
# `kept`: of those that are captured or retained, in the same way. `needed`: whether a captured node lies below; `captured`: whether
# it is one. `rooted`: the pass starts here, and owns the node; the others are owned by edges. `epoch`: how many forks lie behind the process that made it. `next`: in a list while the graph is searched; `chain`: of all; `bucket`: of those that another thread's pass holds.
Visit = np.dtype(
    words("node", "call", "grads", "grad", "kept", "keep", "pending", "left", "needed", "captured")
    + words("next", "chain", "previous", "bucket", "epoch", "rooted")
)

# One backward pass. `pruned`: only what leads to captured nodes is run. `foreign`: hash table of visits of leaves that another thread's
# pass holds. `watch`: anomaly mode. `ready`: how many nodes can run; `heap`: an array of their visits, `heap_room` its size. `number`: no other pass has it.
Call = np.dtype(
    words(
        "thread", "visits", "ready", "retain", "create_graph", "accumulate", "pruned", "watch", "arena", "free", "room"
    )
    + words("foreign", "heap", "heap_room", "number", "epoch")
)

State = np.dtype(
    words(
        "tensors",  # and storages, from bit 32 on
        "nodes",
        "bytes",
        "sequence",
        "peak",
        "pooled",
        "released",
        "release_lock",
        "asked",
        "hooked",
        "leaf_lock",
        "threads",
        "parallel_for",
        "pool_lock",
        "forks",
        "locals",  # the records of all threads, under a lock
        "locals_lock",
    )
    + [("pool", "i8", 48)]
)

# What one thread has for itself, so that threads do not wait for each other. `mode`: see modes.py. `tensors`, `nodes`, `bytes`: what it adds to the counts
# of `State`; `sequence`: the next number for a node, and `end` of the numbers it may give. `arena`, `heap`: memory for the next pass.
# `blocks`: lists of free blocks, by their size in units of 64 bytes; `kept`: how many units they have in all. `device`: where new tensors
# are made; `context`: the device whose CUDA context is this thread's now; `streams`: for each device the number of the stream that the
# thread's work goes to; `capture`: whether that work is recorded in a graph, and not done (see devices.py). `casts`: see autocast.py.
# `item`: the element of a device that was asked for last.
CLASSES = 24
DEVICES, STREAMS, USERS = 17, 48, 8
MEMORY, GRAPH = (
    STREAMS - 2,
    STREAMS - 1,
)  # streams that graphs are made with: memory is asked for on one, the other is captured
Local = np.dtype(
    words("next", "mode", "tensors", "nodes", "bytes", "sequence", "end", "arena", "heap", "kept")
    + words("device", "capture", "casts", "item")
    + [("streams", "i8", DEVICES), ("blocks", "i8", CLASSES)]
)

# The driver of CUDA devices: addresses of its C functions, and for each device, by its number, handles and counts of bytes. `forks`: how
# many forks lay behind the process that opened it. `streams`, `events`: by number, each stream with an event that marks how far it has
# come; number 0 is the default stream. `last`: a ring of the ops that launched kernels last, `launched` of them in all.
LAST = 16
Driver = np.dtype(
    words(
        "launch",
        "allocate",
        "free",
        "copy",
        "fill",
        "synchronize",
        "set_context",
        "get_context",
        "trim",
        "record",
        "wait",
    )
    + words("forks", "launched")
    + [(name, "i8", DEVICES) for name in ("contexts", "pools", "units", "live", "peak", "allocations")]
    + [(name, "i8", (DEVICES, STREAMS)) for name in ("streams", "events")]
    + [("last", "i8", LAST)]
)

# What one launch hands over: addresses of the parameters' words, and the words.
PARAMETERS = 272  # what steps of optimisers take
Launch = np.dtype(words("count") + [("addresses", "i8", PARAMETERS), ("words", "i8", PARAMETERS)])

# The kernels of an op for CUDA devices: addresses of what runs it natively (0: it runs on the CPU), and kernels by form and dtype.
FORMS = 8  # of one kernel: 0 contiguous, d over d dimensions
DeviceOp = np.dtype(words("run") + [("kernels", "i8", ((INPUTS + 1) * FORMS, 16))])

# What the choice of an algorithm for ``out = alpha * x @ y + beta * old`` depends on. Steps are from row to row, or from column to column where
# a matrix is `turned`, in elements. `align`: bytes that an address is a multiple of, at most 256. `owner`: a word of the thread's, where the plan
# is its own. A `Prepared` one is a plan: handles of the library's descriptors; `next` of the same hash; `workspace`: bytes of memory
# that the algorithm wants; `fleeting`: whether it is forgotten after use.
Problem = np.dtype(
    words("device", "dtype", "tf32", "epilogue", "owner", "m", "n", "k", "batches")
    + words("x_step", "y_step", "old_step", "x_turned", "y_turned", "x_batch", "y_batch")
    + words("x_align", "y_align", "old_align", "out_align", "bias_align")
)
Prepared = np.dtype(
    Problem.descr
    + words("next", "usable", "fleeting", "workspace", "product", "x", "y", "old", "out")
    + [("algorithm", "i8", 8)]
)

# The library that multiplies matrices on devices: addresses of its functions, its handle for each device (0: not asked for yet, 1: there is none), whether
# it is not to be used, whether float32 may be multiplied as TF32, and the first plan of each hash.
PLANS = 4096
Library = np.dtype(
    words("multiply", "set_attribute", "off", "tf32") + [("handles", "i8", DEVICES), ("plans", "i8", PLANS)]
)


def at(dtype):
    """An intrinsic that gives the record at an address."""
    record = from_dtype(dtype)

    @intrinsic
    def view(typingctx, address):
        def codegen(context, builder, signature, args):
            return builder.inttoptr(args[0], context.get_value_type(record))

        return record(types.int64), codegen

    return view


(
    block_at,
    storage_at,
    tensor_at,
    node_at,
    output_at,
    edge_at,
    saved_at,
    op_at,
    frame_at,
    arguments_at,
    attribute_at,
    visit_at,
    call_at,
    state_at,
    local_at,
    custom_at,
    driver_at,
    launch_at,
    device_op_at,
    problem_at,
    prepared_at,
    library_at,
) = map(
    at,
    (
        Block,
        Storage,
        Tensor,
        Node,
        Output,
        Edge,
        Saved,
        Op,
        Frame,
        Arguments,
        Attribute,
        Visit,
        Call,
        State,
        Local,
        Custom,
        Driver,
        Launch,
        DeviceOp,
        Problem,
        Prepared,
        Library,
    ),
)


def on_stack(dtype):
    """An intrinsic that gives the address of an uninitialised record on the stack of the function it is called in, which must not return it."""

    @intrinsic
    def place(typingctx):
        def codegen(context, builder, signature, args):
            room = ir.ArrayType(ir.IntType(64), dtype.itemsize // 8)
            return builder.ptrtoint(pointers.on_stack(builder, room), ir.IntType(64))

        return types.int64(), codegen

    return place


new_frame, new_arguments, new_call, new_view, new_launch, new_problem = map(
    on_stack, (Frame, Arguments, Call, Tensor, Launch, Problem)
)


def view_record(address, dtype):
    """The record at an address, as a NumPy record that shares the memory.

    The caller keeps the block alive for as long as it uses the record.
    """
    memory = (ctypes.c_byte * dtype.itemsize).from_address(address)
    return np.frombuffer(memory, dtype)[0]
