"""Train a small network on scikit-learn's handwritten digits, draw its graph, and show what an overwritten tensor leads to."""

import pathlib

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import numbatensor as nt
from numbatensor import graph
from numbatensor.nn import functional as F

OUT = pathlib.Path("demo_out")
EPOCHS = 60


def data():
    """1797 images of 8x8 pixels and their digits, a quarter of them held out."""
    images, digits = load_digits(return_X_y=True)
    parts = train_test_split(
        (images / 16.0).astype("float32"), digits.astype("int64"), test_size=0.25, random_state=0, stratify=digits
    )
    return [nt.from_numpy(np.ascontiguousarray(part)) for part in parts]


def accuracy(model, x, y):
    with nt.no_grad():
        return (model(x).argmax(1) == y).float().mean().item()


def train(model, x, y, test_x, test_y):
    optimizer = nt.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    loader = nt.utils.data.DataLoader(nt.utils.data.TensorDataset(x, y), batch_size=64, shuffle=True)
    losses = []
    with tqdm(range(EPOCHS), unit="epoch") as bar:
        for _ in bar:
            model.train()
            optimizer.param_groups[0]["lr"] *= 0.96
            for images, digits in loader:
                optimizer.zero_grad()
                loss = F.cross_entropy(model(images), digits)
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            model.eval()
            bar.set_postfix(loss=f"{np.mean(losses[-20:]):.4f}", accuracy=f"{accuracy(model, test_x, test_y):.4f}")
    return losses


def main():
    nt.manual_seed(0)
    OUT.mkdir(exist_ok=True)
    x, test_x, y, test_y = data()
    model = nt.nn.Sequential(nt.nn.Linear(64, 256), nt.nn.ReLU(), nt.nn.Dropout(0.3), nt.nn.Linear(256, 10))
    losses = train(model, x, y, test_x, test_y)
    model.eval()
    reached = accuracy(model, test_x, test_y)
    print(f"accuracy on {len(test_x)} held-out images: {reached:.2%}")
    if reached < 0.97:
        raise SystemExit("the network should reach 97 %")

    plt.figure(figsize=(7, 4))
    plt.plot(losses)
    plt.xlabel("step")
    plt.ylabel("cross entropy")
    plt.tight_layout()
    plt.savefig(OUT / "loss.png", dpi=120)
    graph.draw(F.cross_entropy(model(x[:64]), y[:64]), OUT / "graph.svg")
    print(f"wrote {OUT / 'loss.png'} and {OUT / 'graph.svg'}")

    print("\nOverwriting a tensor that the graph has saved:")
    hidden = model[0](x[:4]).exp()
    hidden.mul_(2.0)
    try:
        hidden.sum().backward()
    except RuntimeError as error:
        print(f"RuntimeError: {error}")
    else:
        raise SystemExit("an overwritten tensor went unnoticed")


if __name__ == "__main__":
    main()
