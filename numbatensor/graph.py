"""The autograd graph as a picture: SVG, and text for Graphviz and Mermaid."""

import pathlib
from html import escape

from numbatensor import graph_svg
from numbatensor.graph_svg import COLORS, FILLS
from numbatensor.graph_walk import around, boxes_of, note, output_label, roots_of, walk

NEAR = 40  # nodes in the picture of an error
BACKSLASH = "&#92;"  # in labels of DOT, where it would escape what follows
QUOTED = {"\\": "\\\\", '"': '\\"', "&": "&amp;"}  # in strings of DOT
ENTITIES = {c: f"#{ord(c)};" for c in "#\"'&<>`\\[]{}|;"}  # in texts of Mermaid


class Picture(str):
    """SVG as text; a notebook shows the picture."""

    def _repr_svg_(self):
        return str(self)


def draw(tensor, path=None, names=None, format="svg", limit=500):
    """The graph that tensors came from, outputs on top.

    A box shows an op, the shape of its result, and each value that it saved: its version then, and now where that is another. What was
    overwritten is red. Pointing at a box shows the op's source line; at a red line, who has overwritten the value and where.

    Parameters
    ----------
    tensor : Tensor, Node, or sequence of them
        Where the graph starts.
    path : str or path, optional
        A file that the text is written to.
    names : dict of Tensor, sequence of pairs, or Module, optional
        Names to show: a module's are those of its parameters.
    format : {"svg", "dot", "mermaid"}
        SVG is laid out by Graphviz where its ``dot`` is installed, else with networkx (``pip install networkx``).
    limit : int
        How many nodes are shown; the nearest are.

    Returns
    -------
    str
        The text; SVG is one that notebooks show.
    """
    if format not in WRITERS:
        raise ValueError(f"format must be one of {list(WRITERS)}, not {format!r}")
    text = WRITERS[format](walk(roots_of(tensor), limit), names)
    if path is not None:
        pathlib.Path(path).write_text(text, encoding="utf-8")
    return text


def draw_around(node, root, errors):
    """The picture of an error: the graph that is nearest to a node. `errors`: by (node, slot), what is said of a saved value."""
    return as_svg(around(node, root, NEAR), None, errors)


def to_dot(tensor, names=None, limit=500):
    """The graph in Graphviz's language; see `draw`."""
    return draw(tensor, names=names, format="dot", limit=limit)


def to_mermaid(tensor, names=None, limit=500):
    """The graph in Mermaid's language; see `draw`."""
    return draw(tensor, names=names, format="mermaid", limit=limit)


def as_svg(graph, names=None, errors=None):
    labels: dict = {}
    for edge in graph.edges:
        if output_label(graph, edge):
            labels.setdefault(edge[:2], []).append(output_label(graph, edge))
    labels = {edge: ", ".join(dict.fromkeys(outputs)) for edge, outputs in labels.items()}
    return Picture(
        graph_svg.svg(boxes_of(graph, names, errors), [edge[:2] for edge in graph.edges], labels, note(graph))
    )


def as_dot(graph, names=None):
    lines = ["digraph {", '  node [shape=box, style="rounded,filled", fontname="monospace", fontsize=11];']
    for k, box in enumerate(boxes_of(graph, names)):
        fill, rim = FILLS[box.kind]
        text = "<br/>".join(
            f'<font color="{COLORS[line.kind]}">{escape(line.text).replace(chr(92), BACKSLASH)}</font>'
            for line in box.lines
        )
        tip = quoted("\n".join([box.tip, *[f"{line.text} ({line.tip})" for line in box.lines if line.tip]]))
        lines.append(f'  n{k} [label=<{text}>, tooltip="{tip}", fillcolor="{fill}", color="{rim}"];')
    for a, b, output in graph.edges:
        label = output_label(graph, (a, b, output))
        lines.append(f'  n{a} -> n{b} [label="{label}"];' if label else f"  n{a} -> n{b};")
    if graph.cut:
        lines.append(f'  graph [label="{note(graph)}", labelloc=b];')
    return "\n".join([*lines, "}"])


def quoted(text):
    return "".join(QUOTED.get(c, c) for c in text).replace("\n", "\\n")


def as_mermaid(graph, names=None):
    lines, kinds = ["graph TD"], {}
    for k, box in enumerate(boxes_of(graph, names)):
        text = "<br/>".join(
            "".join(ENTITIES.get(c, c) for c in part) for part in [line.text for line in box.lines] + [box.tip]
        )
        lines.append(f'  n{k}["{text}"]')
        kinds.setdefault(box.kind, []).append(f"n{k}")
    for a, b, output in graph.edges:
        label = output_label(graph, (a, b, output))
        lines.append(f"  n{a} -->|{label}| n{b}" if label else f"  n{a} --> n{b}")
    if graph.cut:
        lines.append(f'  more["{note(graph)}"]')
    for kind, members in kinds.items():
        fill, rim = FILLS[kind]
        lines += [f"  classDef {kind} fill:{fill},stroke:{rim},color:#0f172a", f"  class {','.join(members)} {kind}"]
    return "\n".join(lines)


WRITERS = {"svg": as_svg, "dot": as_dot, "mermaid": as_mermaid}
