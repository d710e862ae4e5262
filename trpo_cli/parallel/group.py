"""The group of workers: a worker's rank, its share of the lanes, and the few sums and exchanges between workers.

Every worker runs the same program on its own share of the lanes. The default group is this process alone;
``torch.distributed`` (gloo) joins several processes.
"""

import os
from typing import Self, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

Item = TypeVar("Item")


class Group:
    """This process alone, or its place in the process group that ``torch.distributed`` has joined."""

    def __init__(self) -> None:
        joined = dist.is_available() and dist.is_initialized()
        self.rank: int = dist.get_rank() if joined else 0
        self.size: int = dist.get_world_size() if joined else 1
        self.local_rank: int = self.rank  # among the workers of its machine
        if joined and "RANK" in os.environ:  # started by torchrun or Slurm, perhaps on several machines
            self.local_rank = int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", self.rank)))

    @classmethod
    def alone(cls) -> Self:
        """A group of this process alone, whatever processes have been joined."""
        group = cls.__new__(cls)
        group.rank, group.size, group.local_rank = 0, 1, 0
        return group

    @property
    def leads(self) -> bool:
        """True in the one process that writes files and talks to the user."""
        return self.rank == 0

    def share(self, n: int) -> range:
        """The consecutive part of ``range(n)`` that this worker owns; the parts differ by one at most."""
        return range(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def sum(self, x: Tensor) -> Tensor:
        """The sum of ``x`` (any shape, the same everywhere) over the workers, in float64, on ``x``'s device."""
        total = x.to("cpu", torch.float64, copy=True)
        if self.size > 1:
            dist.all_reduce(total)
        return total.to(x.device)

    def sums(self, *numbers: float) -> list[float]:
        """Each number summed over the workers, in one exchange."""
        return [float(s) for s in self.sum(torch.tensor(numbers, dtype=torch.float64))]

    def maximum(self, number: float) -> float:
        """The largest of the workers' numbers; infinite if one is NaN."""
        largest = torch.tensor(float("inf") if number != number else number, dtype=torch.float64)
        if self.size > 1:
            dist.all_reduce(largest, dist.ReduceOp.MAX)
        return float(largest)

    def sum_array(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """``sum`` for a NumPy array."""
        return self.sum(torch.from_numpy(np.ascontiguousarray(x, np.float64))).numpy()

    def gather_objects(self, item: Item) -> list[Item]:
        """The workers' items in rank order, the same list everywhere."""
        if self.size == 1:
            return [item]
        items: list[Item | None] = [None] * self.size
        dist.all_gather_object(items, item)
        return items  # type: ignore[return-value]

    def concatenate(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """The workers' arrays, whose first axes may differ, one after the other in rank order."""
        return np.concatenate(self.gather_objects(array)) if self.size > 1 else array

    def from_leader(self, item: Item) -> Item:
        """The leader's item, everywhere."""
        if self.size == 1:
            return item
        box = [item]
        dist.broadcast_object_list(box, src=0)
        return box[0]
