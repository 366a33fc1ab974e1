"""Data sets and the batches they are read in."""

import numbatensor as nt


class Dataset:
    """What has a length, and a sample for each number below it."""

    def __getitem__(self, index):
        raise NotImplementedError

    def __len__(self):
        raise NotImplementedError


class TensorDataset(Dataset):
    """Samples that are the slices of tensors with one first dimension."""

    def __init__(self, *tensors):
        if any(t.shape[0] != tensors[0].shape[0] for t in tensors):
            raise ValueError(f"Size mismatch between tensors: {[tuple(t.shape) for t in tensors]}")
        self.tensors = tensors

    def __getitem__(self, index):
        return tuple(t[index] for t in self.tensors)

    def __len__(self):
        return self.tensors[0].shape[0]


def collate(samples):
    """Samples joined into a batch: tensors are stacked, numbers become tensors, tuples and dicts stay."""
    first = samples[0]
    if isinstance(first, nt.Tensor):
        return nt.stack(samples)
    if isinstance(first, (tuple, list)):
        return type(first)(collate(list(part)) for part in zip(*samples, strict=True))
    if isinstance(first, dict):
        return {k: collate([s[k] for s in samples]) for k in first}
    return nt.tensor(samples) if not isinstance(first, str) else samples


class DataLoader:
    """Batches of a data set, in order or shuffled anew each time."""

    def __init__(self, dataset, batch_size=1, shuffle=False, drop_last=False, generator=None, collate_fn=None):
        if batch_size < 1:
            raise ValueError(f"batch_size should be a positive integer value, but got batch_size={batch_size}")
        self.dataset, self.batch_size, self.shuffle, self.drop_last = dataset, batch_size, shuffle, drop_last
        self.generator, self.collate_fn = generator, collate_fn

    def __len__(self):
        n = len(self.dataset)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def __iter__(self):
        n = len(self.dataset)
        order = nt.randperm(n, generator=self.generator) if self.shuffle else nt.arange(n)
        for k in range(len(self)):
            chosen = order[k * self.batch_size : (k + 1) * self.batch_size]
            if self.collate_fn is None and type(self.dataset) is TensorDataset:
                yield list(self.dataset[chosen])
            else:
                yield (self.collate_fn or collate)([self.dataset[i] for i in chosen.tolist()])
