"""The error of a saved value that was overwritten: it says who saved it and who wrote it, and shows both in a notebook."""

import ctypes
import sys
import traceback
import warnings

from numbatensor import graph
from numbatensor.core import node_entries, sites
from numbatensor.core.promotion import NAMES
from numbatensor.core.python import callback
from numbatensor.core.records import Node, Saved, Storage, view_record
from numbatensor.messages import long_name, saver, writer_name

NOT_REACHED = ("", "", " The log of writes does not reach back to that: any write counts.")
STRICT = " It left what was saved as it was, but strict_versions is on: any write counts."


class VersionError(RuntimeError):
    """A value that a gradient rule reads was overwritten after it had been saved.

    In a notebook it shows the graph around the node, with the value in red. Pickled, it is its message.

    Attributes
    ----------
    node : autograd.graph.Node or None
        The node that saved the value.
    slot : int or None
        Which of its saved values, as they stand in ``node.saved``.
    root : autograd.graph.Node or None
        The node from which the backward pass started, where it is known.
    """

    __module__ = "numbatensor.autograd"  # where users find it
    __slots__ = ("__weakref__", "node", "root", "slot")  # no part of what is pickled

    def __init__(self, message, node=None, slot=None, root=None):
        super().__init__(message)
        self.node, self.slot, self.root = node, slot, root

    def _repr_svg_(self):
        """The graph around the node, or None where nothing is known of it, or nothing installed could lay it out."""
        if self.node is None:
            return None
        try:
            return str(graph.draw_around(self.node, self.root, {(self.node, self.slot): str(self)}))
        except ImportError:
            return None

    def _render_traceback_(self):
        """What IPython prints, as a list of lines: its usual traceback. The picture is displayed first, where it can be."""
        shell = None
        if "IPython" in sys.modules:
            from IPython import get_ipython

            shell = get_ipython()
        if shell is None:
            return traceback.format_exception(self)
        show(self)
        return shell.InteractiveTB.structured_traceback(type(self), self, self.__traceback__)


def show(error):
    """Display the picture of an error in IPython, which shows nothing where it has no way to show SVG."""
    from IPython.display import display

    try:
        picture = error._repr_svg_()
        if picture:
            display({"image/svg+xml": picture}, raw=True)
    except Exception as failure:  # the error itself is what the user must see
        warnings.warn(f"the picture of the error could not be drawn: {failure!r}", stacklevel=2)


@callback
def stale(node, k, result, found):
    """Raise the error of a saved value that was overwritten: who saved it where, and who wrote it where.

    `result` is what `overwritten` gave, and `found` the address of the words that it put down.
    """
    n = view_record(node, Node)
    s = view_record(int(n["saves"]) + k * Saved.itemsize, Saved)
    storage = view_record(int(s["storage"]), Storage)
    version, writer, code, at = (ctypes.c_int64 * 4).from_address(found)
    shape = [int(m) for m in s["shape"][: s["ndim"]]]
    op, shown, name = saver(node, n, int(s["which"]))
    done = "has overwritten it since" if result == 1 else "has written to its storage since"
    raise VersionError(
        "one of the variables needed for gradient computation has been modified by an inplace operation: "
        f"[numbatensor.{long_name(int(s['dtype']))}Tensor {shape}], which is output 0 of {shown}, is at "
        f"version {int(storage['version'])}; expected version {int(s['version'])} instead. "
        f"{op} saved {name} ({NAMES[int(s['dtype'])]} {shape}) at {sites.describe(int(n['code']), int(n['at']))}, and "
        f"{writer_name(writer)} at {sites.describe(code, at)} {done}, making version {version}. Clone it before the in-place call."
        f"{STRICT if result == 0 else NOT_REACHED[result]}",
        *place(node, k),
    )


@callback
def alias_wrote(node, k):
    """Raise the error of a saved value that a NumPy array has changed."""
    n = view_record(node, Node)
    s = view_record(int(n["saves"]) + k * Saved.itemsize, Saved)
    storage = view_record(int(s["storage"]), Storage)
    op, _, _ = saver(node, n, int(s["which"]))
    raise VersionError(
        "one of the variables needed for gradient computation has been modified by an inplace operation: memory that a NumPy array "
        f"shares (storage version {int(storage['version'])}) was written after {op} saved it at "
        f"{sites.describe(int(n['code']), int(n['at']))}. Copy the array before writing to it.",
        *place(node, k),
    )


def place(node, k):
    """Where an error is: the node, the slot, and the node from which the pass started."""
    return node_entries.node_box(node), k, node_entries.start_of_pass(node)
