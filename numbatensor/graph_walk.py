"""What a picture of a graph says: its nodes as boxes of lines, and the edges between them."""

import collections
import re
import typing

from numbatensor.core import entries
from numbatensor.core.graph import FREED
from numbatensor.core.python import TensorBase
from numbatensor.graph_nodes import GraphNode, node_of

OP, LEAF, GONE, STALE, PLAIN, DIM = "op", "leaf", "freed", "stale", "plain", "dim"  # kinds of box, and of line
SCAN = 5000  # nodes among which the neighbours of one are looked for
LONGEST = 60  # characters of a line
UNPRINTABLE = re.compile(r"[^\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # no part of XML, or a break of the line


class Line(typing.NamedTuple):
    """A line in a box, and what is shown where one points at it."""

    text: str
    kind: str = PLAIN
    tip: str = ""


class Box(typing.NamedTuple):
    """A node, its first line being its name."""

    kind: str
    lines: list
    tip: str


class Graph(typing.NamedTuple):
    """Nodes, edges as (user's number, input's number, which output of the input), and how many inputs of a node are left out.

    `cut`: whether any node of the whole graph is left out.
    """

    nodes: list
    edges: list
    left_out: collections.Counter
    cut: bool


def roots_of(what):
    """The nodes that a tensor, a node, or each of several came from."""
    found = {}
    for one in [what] if isinstance(what, (TensorBase, GraphNode)) else what:
        if not isinstance(one, (TensorBase, GraphNode)):
            raise TypeError(f"a graph is drawn of tensors or nodes, not of {type(one).__name__}")
        node = one if isinstance(one, GraphNode) else node_of(one)
        if node is None:
            raise ValueError("this tensor has no graph: it is a leaf, or was made without recording")
        found[node] = True
    if not found:
        raise ValueError("there is nothing to draw: no tensor was given")
    return list(found)


def walk(roots, limit):
    """The graph of the nodes that are nearest to the roots, at most `limit` of them."""
    if limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}")
    numbers = {node: k for k, node in enumerate(roots[:limit])}
    nodes, edges, left_out = list(numbers), [], collections.Counter()
    for k, node in enumerate(nodes):  # which grows on the way
        for parent, output in node.next_functions:
            if parent is None:
                continue
            if parent not in numbers:
                if len(nodes) == limit:
                    left_out[k] += 1
                    continue
                numbers[parent] = len(nodes)
                nodes.append(parent)
            edges.append((k, numbers[parent], output))
    return Graph(nodes, edges, left_out, bool(left_out) or len(roots) > limit)


def around(node, root, limit):
    """The graph of the nodes that are nearest to one, its users among them where they are found from `root`."""
    whole = walk([root or node], SCAN)
    if node not in whole.nodes:
        return walk([node], limit)._replace(cut=True)
    beside = collections.defaultdict(list)
    for a, b, _ in whole.edges:
        beside[a].append(b)
        beside[b].append(a)
    near = [whole.nodes.index(node)]
    known = set(near)
    for k in near:  # which grows on the way
        for other in beside[k]:
            if other not in known and len(near) < limit:
                known.add(other)
                near.append(other)
    numbers = {k: number for number, k in enumerate(sorted(near))}
    left_out = collections.Counter({numbers[k]: n for k, n in whole.left_out.items() if k in numbers})
    left_out.update(numbers[a] for a, b, _ in whole.edges if a in numbers and b not in numbers)
    edges = [(numbers[a], numbers[b], output) for a, b, output in whole.edges if a in numbers and b in numbers]
    return Graph([whole.nodes[k] for k in numbers], edges, left_out, whole.cut or len(near) < len(whole.nodes))


# words


def named(names):
    """Names by leaf, as its id, and by (node, output), of a dict, of pairs, or of a module's parameters."""
    if hasattr(names, "named_parameters"):
        names = names.named_parameters()
    found: dict = {}
    for name, tensor in names.items() if hasattr(names, "items") else names or ():
        node = node_of(tensor)
        found[id(tensor) if node is None else (node, entries.get(tensor, entries.OUTPUT_NR))] = str(name)
    return found


def size(shape):
    return " x ".join(map(str, shape)) or "scalar"


def line_of(value, told):
    """What is said of a saved value; `told`: of one that made an error, the error."""
    text = f"{value.name}: {value.dtype} {size(value.shape)}"
    if value.packed:
        return Line(f"{text}, kept by a hook", DIM, f"saved at version {value.version}, and packed by a hook")
    if value.version is None:
        return Line(f"{value.name}: {value.dtype} number", DIM)
    versions = f"v{value.version}" + (f", now v{value.current}" if value.current != value.version else "")
    if value.stale or told:
        tip = told or f"saved at version {value.version}; {value.writer} has overwritten it since"
        return Line(f"{text}, {versions}: stale", STALE, tip)
    if value.current != value.version:
        tip = f"its storage was written {value.current - value.version} times since, but not where this lies"
        return Line(f"{text}, {versions}, intact", DIM, tip)
    return Line(f"{text}, {versions}", DIM, f"saved at version {value.version}")


def box_of(node, names, left_out, told):
    """A node as a box. `told`: by (node, slot), errors that saved values have made."""
    outputs, leaf = node.outputs, not node.record["op"]
    labels = [names.get((node, k)) for k in range(len(outputs))]
    if leaf:
        labels = [names.get(id(node.variable))]
    title = node.name().removesuffix("Backward0")
    lines = [Line(labels[0] if leaf and labels[0] else title)]
    for k, (shape, dtype) in enumerate(outputs):
        text = f"{dtype} {size(shape)}" if len(outputs) == 1 else f"output {k}: {dtype} {size(shape)}"
        lines.append(Line(text if leaf or not labels[k] else f"{labels[k]}: {text}", DIM))
    lines += [line_of(value, told.get((node, k))) for k, value in enumerate(node.saved)]
    gone = node.record["kind"] == FREED
    if gone:
        lines.append(Line("freed", DIM, "a backward pass has run, and freed what this node had saved"))
    if left_out:
        lines.append(Line(f"{left_out} more inputs" if left_out > 1 else "1 more input", DIM, "not shown"))
    kind = STALE if any(line.kind == STALE for line in lines) else GONE if gone else LEAF if leaf else OP
    tip = node.name() if leaf else f"{node.name()}, recorded at {node.site}"
    return Box(kind, [Line(shortened(line.text), line.kind, printable(line.tip)) for line in lines], printable(tip))


def printable(text):
    """A text on one line, of characters that XML can have."""
    return UNPRINTABLE.sub("\ufffd", re.sub(r"\s", " ", text))


def shortened(text):
    text = printable(text)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def boxes_of(graph, names=None, told=None):
    """The nodes of a graph as boxes."""
    names, told = named(names), told or {}
    return [box_of(node, names, graph.left_out[k], told) for k, node in enumerate(graph.nodes)]


def output_label(graph, edge):
    """Which of several outputs of its input an edge stands for; empty where there is one."""
    return f"output {edge[2]}" if int(graph.nodes[edge[1]].record["outputs"]) > 1 else ""


def note(graph):
    """That a part of the graph is left out."""
    return f"The {len(graph.nodes)} nearest nodes; the graph goes on." if graph.cut else ""
