"""Several processes that train one model, each on its part of every batch.

`python -m torch.distributed.run --standalone --nproc-per-node 4 -m fewron_recover train …` starts them, one a GPU.
All hold the same weights: they take the same steps, by the mean of their gradients.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from fewron_recover.errors import RecoverError


@dataclass(frozen=True)
class Ranks:
    """Which of the processes this is, and how many there are."""

    index: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes and prints."""
        return self.index == 0

    def part(self, rows: int) -> range:
        """The rows of a batch that are this process's."""
        if rows % self.count:
            raise RecoverError(f"--batch {rows} cannot be shared by {self.count} processes: give a multiple")
        own = rows // self.count
        return range(self.index * own, (self.index + 1) * own)

    @torch.no_grad()
    def mean(self, tensors: Sequence[Tensor]) -> None:
        """Each tensor (f32) becomes its mean over the processes."""
        if self.count == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.count
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        shaped = [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]
        torch._foreach_copy_(list(tensors), shaped)

    @torch.no_grad()
    def same(self, tensors: Sequence[Tensor]) -> None:
        """Each tensor becomes that of the first process."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor.data, 0)

    def largest(self, number: int, device: torch.device) -> int:
        """The largest of the processes' numbers."""
        if self.count == 1:
            return number
        found = torch.tensor(number, device=device)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found)


ALONE = Ranks()


@contextmanager
def joined(device: str) -> Iterator[tuple[Ranks, torch.device]]:
    """This process among those that `torch.distributed.run` has started, if it has, and its device."""
    count, index = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if count == 1:
        yield ALONE, torch.device(device)
        return
    own = torch.device(device)
    if own.type == "cuda":
        own = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(own)
    gpu = own.type == "cuda"
    dist.init_process_group("nccl" if gpu else "gloo", device_id=own if gpu else None)
    try:
        yield Ranks(index, count), own
    finally:
        dist.destroy_process_group()
