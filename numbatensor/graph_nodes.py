"""The graph as Python sees it: nodes, their names and where they lead."""

from numbatensor.core import entries
from numbatensor.core.records import Edge, Node, Saved, view_record
from numbatensor.op import BY_ADDRESS


class GraphNode:
    """A node of the autograd graph, such as a tensor's `grad_fn`."""

    __slots__ = ("address",)

    def __init__(self, address):
        entries.own_node(address)
        self.address = address

    def __del__(self):
        entries.disown_node(self.address)

    def __eq__(self, other):
        return isinstance(other, GraphNode) and self.address == other.address

    def __hash__(self):
        return hash(self.address)

    @property
    def record(self):
        return view_record(self.address, Node)

    def name(self):
        """The name of the operation's gradient, such as ``MulBackward0``."""
        record = self.record
        return BY_ADDRESS[int(record["op"])].node_name() if record["op"] else "AccumulateGrad"

    @property
    def next_functions(self):
        """The nodes that the gradient flows on to, as pairs of node and output number; None where it is not wanted."""
        record, found = self.record, []
        for i in range(int(record["inputs"])):
            edge = view_record(int(record["edges"]) + i * Edge.itemsize, Edge)
            found.append((GraphNode(int(edge["node"])), int(edge["output_nr"])) if edge["node"] else (None, 0))
        return tuple(found)

    @property
    def shape(self):
        """The shape of the output whose gradient enters here."""
        record = self.record
        return tuple(int(n) for n in record["shape"][: record["ndim"]])

    @property
    def saved(self):
        """What the node saved: (name, version then, version now) for each value."""
        record, found = self.record, []
        op = BY_ADDRESS.get(int(record["op"]))
        for k in range(int(record["saved"])):
            s = view_record(int(record["saves"]) + k * Saved.itemsize, Saved)
            name = "out" if s["which"] == 0 else op.inputs[int(s["which"]) - 1]
            found.append((name, int(s["version"])))
        return found

    def __repr__(self):
        return f"<{self.name()} object at {self.address:#x}>"


def node_of(tensor):
    """The `grad_fn` of a tensor, or None for a leaf."""
    address = entries.leaf_node(tensor) if entries.get(tensor, entries.REQUIRES_GRAD) else 0
    if not address or view_record(address, Node)["kind"] == 0:
        return None
    return GraphNode(address)
