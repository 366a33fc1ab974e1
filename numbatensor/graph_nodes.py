"""The graph as Python sees it: nodes, their names, where they lead, what they saved, and their hooks."""

import ctypes
import typing

from numbatensor.core import entries, graph, node_entries, python, sites
from numbatensor.core.promotion import NAMES
from numbatensor.core.python import NodeBase
from numbatensor.core.records import Edge, Node, Output, Saved, Storage, view_record
from numbatensor.hooks import RemovableHandle, extras_of, pack, unpacked
from numbatensor.messages import freed, writer_name
from numbatensor.op import BY_ADDRESS
from numbatensor.python_rules import attributes_of

SELF = {"x": "self", "y": "other", "out": "result"}  # what PyTorch calls what is saved


class SavedValue(typing.NamedTuple):
    """What a node saved: under which name, its shape and dtype, the version it was saved at, and the version that it has now.

    `version` and `current`: None of a number. `writer`: who has overwritten it since, and where; empty where it is intact. `packed`: whether a hook keeps it.
    """

    name: str
    shape: tuple
    dtype: str
    version: int | None
    current: int | None
    writer: str = ""
    packed: bool = False

    @property
    def stale(self):
        """Whether it was overwritten, so that a backward pass would fail."""
        return bool(self.writer)


class SavedTensor:
    """A saved value that has not been unpacked yet."""

    def __init__(self, node, slot):
        self.node, self.slot = node, slot

    def register_hooks(self, pack_hook, unpack_hook):
        """Replace the value by what ``pack_hook(tensor)`` gives, from which ``unpack_hook`` makes the tensor when it is used."""
        if extras_of(self.node.address).packed.get(self.slot):
            raise RuntimeError(
                "Calling register_hooks on a saved tensor whose hooks have already been set is not allowed."
            )
        pack(self.node.address, self.slot, (pack_hook, unpack_hook))


class GraphNode(NodeBase):
    """A node of the autograd graph, such as a tensor's `grad_fn`."""

    @property
    def address(self):
        found = node_entries.node_address(self)
        if not found:
            raise RuntimeError(
                "this node holds nothing: it was made by object.__new__, or freed by the garbage collector"
            )
        return found

    @property
    def record(self):
        return view_record(self.address, Node)

    def name(self):
        """The name of the operation's gradient, such as ``MulBackward0``."""
        record = self.record
        if not record["op"]:
            return "AccumulateGrad"
        state = node_entries.state_of(self.address)
        return getattr(state, "name", None) or BY_ADDRESS[int(record["op"])].node_name()

    @property
    def next_functions(self):
        """The nodes that the gradient flows on to, as pairs of node and output number; None where it is not wanted."""
        record, found = self.record, []
        for i in range(int(record["inputs"])):
            edge = view_record(int(record["edges"]) + i * Edge.itemsize, Edge)
            found.append(
                (node_entries.node_box(int(edge["node"])), int(edge["output_nr"])) if edge["node"] else (None, 0)
            )
        return tuple(found)

    @property
    def metadata(self):
        """A dictionary for what users want to note."""
        return extras_of(self.address).metadata

    @property
    def shape(self):
        """The shape of the first output, whose gradient enters here."""
        record = self.record
        return tuple(int(n) for n in record["shape"][: record["ndim"]])

    @property
    def variable(self):
        """Of a leaf's node, the leaf; None if it is gone."""
        if self.record["op"]:
            raise AttributeError(f"{self.name()} has no variable: only the nodes of leaves have")
        return node_entries.leaf_variable(self.address)

    @property
    def site(self):
        """The source line of the op that made this node, such as ``demo.py:12``."""
        record = self.record
        return sites.describe(int(record["code"]), int(record["at"]))

    def _sequence_nr(self):
        return int(self.record["sequence"])

    def slots(self):
        """The saved values, as pairs of name and record."""
        record, op = self.record, BY_ADDRESS.get(int(self.record["op"]))
        for k in range(int(record["saved"])):
            s = view_record(int(record["saves"]) + k * Saved.itemsize, Saved)
            which = int(s["which"])
            inputs = op.inputs if op else []
            yield "out" if which == 0 else inputs[which - 1] if 0 < which <= len(inputs) else f"value{k}", s

    @property
    def saved(self):
        """What the node saved, as a list of `SavedValue`."""
        found, extras = [], node_entries.extras_of(self.address)
        for k, (name, s) in enumerate(self.slots()):
            shape, dtype = tuple(int(n) for n in s["shape"][: s["ndim"]]), NAMES[int(s["dtype"])]
            packed = extras is not None and k in extras.packed
            if s["storage"] and not packed:
                now = int(view_record(int(s["storage"]), Storage)["version"])
                found.append(SavedValue(name, shape, dtype, int(s["version"]), now, writer_of(self.address, k)))
            else:
                version = int(s["version"]) if packed else None
                found.append(SavedValue(name, shape, dtype, version, version, packed=packed))
        return found

    @property
    def outputs(self):
        """The shapes and dtypes of what the op made, as a list of pairs."""
        record, found = self.record, []
        for k in range(int(record["outputs"])):
            o = view_record(int(record["more"]) + (k - 1) * Output.itemsize, Output) if k else record
            found.append((tuple(int(n) for n in o["shape"][: o["ndim"]]), NAMES[int(o["dtype"])]))
        return found

    def _named(self):
        """What can be read as `_saved_...`: names, each with a slot or a value."""
        record = self.record
        found: dict = {SELF.get(name, name): k for k, (name, _) in enumerate(self.slots())}
        if record["attributes"] and record["kind"] == graph.NATIVE and len(BY_ADDRESS[int(record["op"])].inputs):
            op = BY_ADDRESS[int(record["op"])]
            kept = attributes_of(record, op)
            found.update({n: (v,) for n, v in kept.items() if n in op.inputs[int(record["inputs"]) :]})
        return found

    def __getattr__(self, name):
        raw = name.startswith("_raw_saved_")
        if not raw and not name.startswith("_saved_"):
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        if self.record["kind"] == graph.FREED:
            freed(0, 0, 0)
        found = self._named().get(name.removeprefix("_raw_saved_").removeprefix("_saved_"))
        if found is None:
            raise AttributeError(f"{self.name()} saved no '{name}'; it has {sorted(self._named())}")
        if isinstance(found, tuple):
            return found[0]
        return SavedTensor(self, found) if raw else unpacked(self.address, found)

    def __dir__(self):
        named = [f"_saved_{n}" for n in self._named()]
        raw = [f"_raw_saved_{n}" for n, v in self._named().items() if not isinstance(v, tuple)]
        return [*super().__dir__(), *named, *raw]

    def register_hook(self, hook):
        """Call ``hook(grad_inputs, grad_outputs)`` after this node's rule; what it returns replaces `grad_inputs`.

        Both are tuples, with None where there is no gradient. Gives a handle whose `remove()` takes the hook away.
        """
        node_entries.slow_down(self.address, graph.POSTHOOKS)
        return RemovableHandle(extras_of(self.address).posthooks, hook)

    def register_prehook(self, hook):
        """Call ``hook(grad_outputs)`` before this node's rule; what it returns, a tuple or a tensor, replaces the gradients."""
        node_entries.slow_down(self.address, graph.PREHOOKS)
        return RemovableHandle(extras_of(self.address).prehooks, hook)

    def __repr__(self):
        return f"<{self.name()} object at {self.address:#x}>"


def writer_of(node, k):
    """Who has overwritten the value that a node saved in slot k, and where; empty where it is intact."""
    write = (ctypes.c_int64 * 4)()
    if node_entries.verdict_of(node, k, ctypes.addressof(write)) != graph.INTACT:
        _, word, code, at = write
        return f"{writer_name(word)} at {sites.describe(code, at)}"
    return "a NumPy array that shares its memory" if node_entries.is_changed_by_array(node, k) else ""


def node_of(tensor):
    """The `grad_fn` of a tensor, or None for a leaf."""
    address = node_entries.leaf_node(tensor) if entries.get(tensor, entries.REQUIRES_GRAD) else 0
    if not address or view_record(address, Node)["kind"] == 0:
        return None
    return node_entries.node_box(address)


python.node_class[0] = id(GraphNode)
