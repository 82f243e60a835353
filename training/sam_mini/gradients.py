"""The gradient of one batch.

On a CPU each core takes half of the batch: the operators are too small to be shared by two cores.
"""

import copy
from concurrent.futures import ThreadPoolExecutor

import torch
from losses import mask_loss
from torch import Tensor
from transformers import SamModel

from sam_mini.canvas import CanvasSam
from sam_mini.step import step_loss

CORES = 2


class Gradients:
    """Computes gradients with one copy of the modules, and one thread, per part of a batch.

    The copies share their parameters. On a CPU they are compiled for each shape of batch when it
    is first seen, which takes minutes.
    """

    def __init__(self, model: SamModel, device: torch.device):
        self.device = device
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        number_of_parts = CORES if device.type == "cpu" else 1
        keep = {id(parameter): parameter for parameter in model.parameters()}
        self.replicas = [
            CanvasSam(copy.deepcopy(model, dict(keep))) for _ in range(number_of_parts)
        ]
        self.mask_loss = mask_loss
        self.seen: set[torch.Size] = set()
        if device.type == "cpu":
            torch.set_num_threads(1)
            torch._inductor.config.cpp_wrapper = True  # without it threads wait for one another
            for replica in self.replicas:
                replica.compile_()
            self.mask_loss = torch.compile(mask_loss, dynamic=False)
        self.threads = ThreadPoolExecutor(
            number_of_parts, initializer=torch.set_num_threads, initargs=(1,)
        )

    def compute_(self, batch: dict[str, Tensor], correct: bool) -> dict[str, float]:
        """Set every gradient; returns the loss and what `step.step_loss` watches."""
        size = len(batch["image"]) // len(self.replicas)
        seeds = torch.randint(2**31, (len(self.replicas),)).tolist()
        parts = [
            {
                name: tensor if name == "offset" else tensor[i * size : (i + 1) * size]
                for name, tensor in batch.items()
            }
            for i in range(len(self.replicas))
        ]
        if self.device.type == "cpu" and batch["image"].shape not in self.seen:
            self.seen.add(batch["image"].shape)
            for replica in self.replicas:  # one after the other: only one thread can compile
                self._part(replica, parts[0], True, 0)
        results = list(
            self.threads.map(self._part, self.replicas, parts, [correct] * len(parts), seeds)
        )
        for parameter, *found in zip(
            self.parameters, *(gradients for gradients, _ in results), strict=True
        ):
            known = [gradient for gradient in found if gradient is not None]
            parameter.grad = sum(known) / len(results) if known else None
        return {
            name: sum(watched[name] for _, watched in results) / len(results)
            for name in results[0][1]
        }

    def _part(self, sam: CanvasSam, batch: dict[str, Tensor], correct: bool, seed: int):
        generator = torch.Generator(self.device).manual_seed(seed)
        loss, watched = step_loss(sam, batch, correct, self.mask_loss, generator)
        gradients = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        return gradients, {"loss": loss.item(), **watched}
