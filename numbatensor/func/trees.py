"""Nested tuples, lists, dicts and namedtuples as flat lists of what is in them, and back."""

import collections
import dataclasses


@dataclasses.dataclass(frozen=True)
class Structure:
    """The form of a tree: its container's type, keys or fields, and the forms of its parts; of a leaf, no type."""

    kind: type | None
    keys: tuple = ()
    parts: tuple = ()

    def __repr__(self):
        inner = [repr(p) for p in self.parts]
        if self.kind is None:
            return "*"
        if issubclass(self.kind, dict):
            return "{" + ", ".join(f"{k!r}: {p}" for k, p in zip(self.keys, inner, strict=True)) + "}"
        if issubclass(self.kind, list):
            return f"[{', '.join(inner)}]"
        return f"({', '.join(inner)}{',' if len(inner) == 1 else ''})"

    def count(self):
        """How many leaves there are."""
        return 1 if self.kind is None else sum(p.count() for p in self.parts)


LEAF = Structure(None)


def children(tree):
    """The parts of a container and what they are named by; None for a leaf."""
    kind = type(tree)
    if kind in (dict, collections.OrderedDict):
        return list(tree.values()), tuple(tree)
    if kind in (tuple, list) or (isinstance(tree, tuple) and hasattr(tree, "_fields")):
        return list(tree), tuple(range(len(tree)))
    return None


def flatten(tree):
    """The leaves of a tree, and its structure."""
    found = children(tree)
    if found is None:
        return [tree], LEAF
    leaves, parts = [], []
    for child in found[0]:
        more, part = flatten(child)
        leaves += more
        parts.append(part)
    return leaves, Structure(type(tree), found[1], tuple(parts))


def unflatten(leaves, structure):
    """The tree of a structure with these leaves."""
    return built(iter(leaves), structure)


def built(leaves, structure):
    kind = structure.kind
    if kind is None:
        return next(leaves)
    parts = [built(leaves, p) for p in structure.parts]
    if issubclass(kind, dict):
        return kind(zip(structure.keys, parts, strict=True))
    return kind(*parts) if hasattr(kind, "_fields") else kind(parts)


def mapped(function, tree):
    """The tree with a function applied to each leaf."""
    leaves, structure = flatten(tree)
    return unflatten([function(x) for x in leaves], structure)


def spread(prefix, structure):
    """One value for each leaf of a structure, from a tree that may end earlier: its leaves then count for all below; or None."""
    if structure.kind is None:
        return [prefix] if children(prefix) is None else None
    found = children(prefix)
    if found is None:
        return [prefix] * structure.count()
    if type(prefix) is not structure.kind or found[1] != structure.keys:
        return None
    made = []
    for part, below in zip(found[0], structure.parts, strict=True):
        more = spread(part, below)
        if more is None:
            return None
        made += more
    return made
