"""A linear-chain conditional random field: which characters of a program's source are code, text and comment.

A tag for each character has a score by the characters around it, and each pair of neighbouring tags has one too: `"` may open a text or
close it, and only what came before tells. The forward algorithm sums exp(score) over all ways to tag a line, one character a step.
Its logarithm is all that is written here: its gradient in the scores is the probability of each tag at each place (the marginals),
for which one writes the backward algorithm by hand elsewhere.
"""

import argparse
import io
import sys
import tokenize

import numpy as np
from compare import compare
from numba import njit

import numbatensor as nt

TAGS = "code, opening quote, text, closing quote, comment".split(", ")
CODE, OPEN, TEXT, CLOSE, COMMENT = range(5)
CHARACTERS = 128


def tagged_lines(source):
    """Lines with a text or a comment, and the tags of their characters."""
    lines = source.splitlines()
    tags = [np.full(len(line), CODE) for line in lines]
    several = set()  # lines that share a text with others
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        (row, start), (end_row, end) = token.start, token.end
        if token.type == tokenize.COMMENT:
            tags[row - 1][start:end] = COMMENT
        elif (
            token.type == tokenize.STRING
            and row == end_row
            and token.string[0] in "'\""
            and token.string[1] != token.string[0]
        ):
            tags[row - 1][start:end] = [OPEN, *[TEXT] * (end - start - 2), CLOSE]
        elif token.type == tokenize.STRING:
            several |= set(range(row - 1, end_row))
    return [(line, t) for k, (line, t) in enumerate(zip(lines, tags, strict=True)) if t.any() and k not in several]


def features(line):
    """Which character each is, and which stands before it: a 1 for each in every row."""
    codes = np.array([0, *(ord(c) % CHARACTERS for c in line)])
    both = np.stack([codes[1:], codes[:-1]], 1)
    return nt.tensor(np.eye(CHARACTERS, dtype=np.float32)[both].reshape(len(line), -1))


@njit
def log_partition(emissions, transitions):
    """The logarithm of the sum of exp(score) over all sequences of tags: a product of matrices at each step."""
    moves = transitions.exp()
    highest = emissions.amax(1).detach()  # taken out before exp, so that nothing overflows
    local = (emissions - highest.unsqueeze(1)).exp()
    weights, total = local[0], highest.sum()
    for t in range(1, emissions.size(0)):
        weights = (weights @ moves) * local[t]
        scale = weights.sum()
        weights, total = weights / scale, total + scale.log()
    return total + weights.sum().log()


@njit
def score(emissions, transitions, tags):
    """The score of one sequence of tags, given as a row of zeros and a one for each."""
    return (emissions * tags).sum() + (transitions * (tags[:-1].T @ tags[1:])).sum()


@njit
def surprise(weights, transitions, x, tags):
    """Minus the logarithm of the probability of a line's tags."""
    emissions = x @ weights
    return log_partition(emissions, transitions) - score(emissions, transitions, tags)


def marginals(emissions, transitions):
    """The probability of each tag at each place."""
    return nt.autograd.grad(log_partition(emissions, transitions), emissions)[0]


def main(lines=None, epochs=4):
    lines = lines or tagged_lines(open(argparse.__file__).read())
    tags_of = np.eye(len(TAGS), dtype=np.float32)
    data = [(features(line), nt.tensor(tags_of[tags])) for line, tags in lines]
    weights = nt.zeros(2 * CHARACTERS, len(TAGS), requires_grad=True)
    transitions = nt.zeros(len(TAGS), len(TAGS), requires_grad=True)
    optimizer = nt.optim.Adam([weights, transitions], lr=0.03)
    train, test = data[::2], data[1::2]
    for epoch in range(epochs):
        total = 0.0
        for x, tags in train:
            optimizer.zero_grad()
            loss = surprise(weights, transitions, x, tags)
            loss.backward()
            optimizer.step()
            total += loss.item() / sum(len(x) for x, _ in train)
        print(f"epoch {epoch}: {total:.3f} nats a character")
    likely = [marginals(x @ weights, transitions).argmax(1).tolist() for x, _ in test]
    right = np.concatenate([np.equal(a, b) for a, (_, b) in zip(likely, lines[1::2], strict=True)])
    print(f"{right.mean():.1%} of the characters of {len(test)} other lines have the right tag, for example")
    for (line, _), found in [shown for shown in zip(lines[1::2], likely, strict=True) if "'" in shown[0][0]][:60:20]:
        print(line, "".join(" (-)#"[k] for k in found), sep="\n")
    return right.mean(), weights, transitions


if __name__ == "__main__":
    _, weights, transitions = main()
    if "--compare" in sys.argv:
        emissions = nt.randn(100, len(TAGS), requires_grad=True)
        compare(log_partition, emissions, transitions)
