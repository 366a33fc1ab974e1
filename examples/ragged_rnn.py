"""A recurrent network over sequences of all lengths, without padding: was a year, in Roman numerals, before 1500?

The letters of all numerals lie in one array, and `starts` says where each begins. The network reads a numeral letter by letter, and
stops as soon as it is sure: two letters of MDCCLXXXIX are enough. So the loop's length depends on values, in training too: what is
not read costs nothing, forwards or backwards. The whole training step is compiled, and runs without the GIL.
"""

import sys

import numpy as np
from compare import compare
from numba import njit

import numbatensor as nt

LETTERS = "IVXLCDM"
ROMAN = (("M", 1000), ("CM", 900), ("D", 500), ("CD", 400), ("C", 100), ("XC", 90), ("L", 50), ("XL", 40), ("X", 10))
ROMAN += (("IX", 9), ("V", 5), ("IV", 4), ("I", 1))
SURE = 4.0  # log odds of 98 %


def numeral(year):
    """A year in Roman numerals."""
    written = ""
    for letters, value in ROMAN:
        written, year = written + letters * (year // value), year % value
    return written


def data(years):
    """All letters in a row, where each numeral starts, and whether it stands for a year before 1500: 1 or -1."""
    numerals = [numeral(y) for y in years]
    letters = np.array([LETTERS.index(c) for c in "".join(numerals)])
    starts = np.cumsum([0, *map(len, numerals)])
    return letters, starts, np.where(np.array(years) < 1500, 1.0, -1.0)


@njit
def surprise(embedding, hidden, output, letters, label):
    """The loss after each letter, added up, until the network is sure and right."""
    state, loss = nt.zeros_like(output), nt.zeros((), dtype=output.dtype)
    for letter in letters:
        state = nt.tanh(embedding[letter] + state @ hidden)
        odds = label * (state @ output)
        loss = loss + nt.log1p(nt.exp(-odds))
        if odds.item() > SURE:
            break
    return loss


@njit
def batch_loss(embedding, hidden, output, letters, starts, labels, batch):
    """The mean loss of some numerals."""
    loss = nt.zeros((), dtype=output.dtype)
    for k in batch:
        loss = loss + surprise(embedding, hidden, output, letters[starts[k] : starts[k + 1]], labels[k])
    return loss / len(batch)


@njit
def descend(weight, rate):
    gradient = weight.grad
    if gradient is not None:
        with nt.no_grad():
            weight -= rate * gradient
        gradient.zero_()


@njit(nogil=True)
def train(embedding, hidden, output, letters, starts, labels, order, rate):
    """Descend along the gradient of one batch after the other, a row of `order` each."""
    total = 0.0
    for batch in order:
        loss = batch_loss(embedding, hidden, output, letters, starts, labels, batch)
        loss.backward()
        descend(embedding, rate)
        descend(hidden, rate)
        descend(output, rate)
        total += loss.item()
    return total / len(order)


@njit
def judge(embedding, hidden, output, letters):
    """Read until sure: the log odds for "before 1500", and how many letters were read."""
    state = nt.zeros_like(output)
    odds, n = 0.0, 0
    with nt.no_grad():
        while n < len(letters) and abs(odds) < SURE:
            state = nt.tanh(embedding[letters[n]] + state @ hidden)
            odds = (state @ output).item()
            n += 1
    return odds, n


def main(epochs=30, seed=0):
    nt.manual_seed(seed)
    rng = np.random.default_rng(seed)
    years = rng.permutation(np.arange(1, 3000))
    letters, starts, labels = data(years)
    n = 2000  # are trained on
    weights = [(0.3 * nt.randn(*size)).requires_grad_() for size in ((len(LETTERS), 16), (16, 16), (16,))]
    for epoch in range(epochs):
        order = rng.permutation(n).reshape(-1, 10)
        loss = train(*weights, letters, starts, labels, order, 0.2 * 0.93**epoch)
        if epoch % 5 == 4:
            print(f"epoch {epoch + 1}: loss {loss:.3f}")
    found = [judge(*weights, letters[starts[k] : starts[k + 1]]) for k in range(n, len(years))]
    accuracy = np.mean([odds * label > 0 for (odds, _), label in zip(found, labels[n:], strict=True)])
    reading = sum(k for _, k in found) / (starts[-1] - starts[n])
    print(f"{accuracy:.1%} of {len(found)} other years are right, after {reading:.0%} of their letters")
    for year in (44, 1453, 1492, 1517, 1789, 2026):
        odds, k = judge(*weights, data([year])[0])
        print(f"{numeral(year)[:k]}|{numeral(year)[k:]} ({year}): {'before' if odds > 0 else 'not before'} 1500")
    return accuracy, reading, weights


if __name__ == "__main__":
    *_, weights = main()
    if "--compare" in sys.argv:
        compare(batch_loss, *weights, *data(range(1400, 1600)), np.arange(0, 200, 10))
