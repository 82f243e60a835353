"""The processes that share the steps of a training."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed, nn


class Processes:
    """This process and those beside it: one alone, unless `torchrun` has started several.

    All of them hold the same weights and moments, since they add up the same gradients.
    """

    def __init__(self) -> None:
        self.number = int(os.environ.get("RANK", 0))
        self.count = int(os.environ.get("WORLD_SIZE", 1))
        if self.count > 1 and not distributed.is_initialized():
            distributed.init_process_group("gloo")

    def own(self, shares: int) -> range:
        """The shares of a step that this process does."""
        return range(self.number, shares, self.count)

    def wait(self) -> None:
        """Wait until all are here."""
        if self.count > 1:
            distributed.barrier()

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """The first process writes what the others then find."""
        if self.number > 0:
            self.wait()
        yield
        if self.number == 0:
            self.wait()

    def add_up_(self, trained: nn.Module, stop: bool) -> bool:
        """Add the gradients of all processes; a parameter that no share used has one of zeros.

        Returns:
            Whether any of the processes was told to end.
        """
        for parameter in trained.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        if self.count == 1:
            return stop
        gradients = [parameter.grad for parameter in trained.parameters()]
        everything = torch.cat([*(g.flatten() for g in gradients), torch.tensor([float(stop)])])
        distributed.all_reduce(everything)
        *sums, asked = everything.split([*(g.numel() for g in gradients), 1])
        for gradient, total in zip(gradients, sums, strict=True):
            gradient.copy_(total.view_as(gradient))
        return bool(asked > 0)
