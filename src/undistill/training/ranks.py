"""Training in several processes that `torchrun` starts: on many GPUs, or on the cores of a CPU.

A batch is the whole job's: each rank takes its share. What is random depends on an image's place in the batch, image
pools hold what all ranks made, and losses are means over the batch, so one process and many do the same sums.
"""

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor
from torch import distributed as dist

from undistill.base.device import pick_device
from undistill.base.errors import Failure, UsageError

_DDP_TIMEOUT = timedelta(hours=1)


def connect(device: str, precision: Literal["32-true", "bf16-mixed"]) -> Fabric:
    """Fabric on a device ("auto", "cpu", "cuda", "cuda:1"), under torchrun with its other processes.

    Raises:
        UsageError: there is no such device, or there are not enough.
    """
    where = pick_device(device)
    if not dist.is_torchelastic_launched() or int(os.environ["WORLD_SIZE"]) == 1:
        devices = [where.index] if where.index else 1
        return Fabric(accelerator=where.type, devices=devices, precision=precision)
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    if where.index is not None:
        raise UsageError(f"device {device}: torchrun gives each process a GPU of its own; write cuda")
    if where.type == "cuda" and here > torch.cuda.device_count():
        raise UsageError(f"{here} processes for {torch.cuda.device_count()} GPUs: lower torchrun's --nproc-per-node")
    fabric = Fabric(
        accelerator=where.type,
        devices=here,
        num_nodes=int(os.environ["WORLD_SIZE"]) // here,
        precision=precision,
        strategy=DDPStrategy(timeout=_DDP_TIMEOUT),
    )
    if not dist.is_initialized():
        # At the very end: a network that is wrapped for DDP must not outlive the connection. Its destructor would wait
        # for a thread of Gloo's that waits for Python (seen with torch 2.13).
        atexit.register(dist.destroy_process_group)
    fabric.launch()
    return fabric


def first() -> bool:
    """Is this the process that writes and speaks?"""
    return int(os.environ.get("RANK", "0")) == 0 if dist.is_torchelastic_launched() else True


def local_ranks() -> int:
    """How many processes of the training this machine runs."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if dist.is_torchelastic_launched() else 1


@contextmanager
def all_ranks_or_none(fabric: Fabric) -> Iterator[None]:
    """The block ends in all ranks, or in none: of several errors, the first rank's is raised, the others end silently.

    For what ends without a word between the ranks; see `explain_lost_rank` for the rest.
    """
    problem: UsageError | Failure | OSError | None = None
    try:
        yield
    except (UsageError, Failure, OSError) as error:
        problem = error
    if fabric.world_size > 1:
        codes: list[int] = [0] * fabric.world_size
        dist.all_gather_object(codes, 0 if problem is None else 2 if isinstance(problem, UsageError) else 1)
        failed = [rank for rank, code in enumerate(codes) if code]
        if failed and fabric.global_rank != failed[0]:
            raise SystemExit(codes[failed[0]])
    if problem is not None:
        raise problem


@contextmanager
def explain_lost_rank(fabric: Fabric) -> Iterator[None]:
    """Whoever waits for a rank that is gone ends with one line.

    Raises:
        Failure: another rank ended in the middle of the block.
    """
    try:
        yield
    except (dist.DistError, RuntimeError) as error:
        # Gloo has no class of its own for a connection that another process closed.
        if fabric.world_size > 1 and (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise Failure(
                f"rank {fabric.global_rank}: another process ended; its message says why, and the same command goes on"
            ) from error
        raise


def rank_batch(fabric: Fabric, batch: int) -> int:
    """A rank's part of a batch.

    Raises:
        UsageError: it can't be shared out evenly.
    """
    ranks = fabric.world_size
    if batch % ranks:
        more = -(-batch // ranks) * ranks
        raise UsageError(
            f"a batch of {batch} can't be shared by {ranks} processes: take a multiple, e.g. --set batch={more}"
        )
    return batch // ranks


def rank_slice(fabric: Fabric, everyones: Tensor) -> Tensor:
    """This rank's share of what belongs to a whole batch."""
    return everyones.chunk(fabric.world_size)[fabric.global_rank]


def gathered(fabric: Fabric, images: Tensor) -> Tensor:
    """(ranks x N, ...) of (N, ...), without gradients: a whole batch of the ranks' shares."""
    if fabric.world_size == 1:
        return images.detach()
    here = images.detach().contiguous()
    parts = [torch.empty_like(here) for _ in range(fabric.world_size)]
    dist.all_gather(parts, here)
    return torch.cat(parts)


def mean(fabric: Fabric, values: Tensor) -> Tensor:
    """Over the ranks, whose shares of a batch are alike."""
    return total(fabric, values) / fabric.world_size


def most(fabric: Fabric, here: int) -> int:
    """The largest of the ranks' numbers."""
    if fabric.world_size == 1:
        return here
    largest = fabric.all_reduce(torch.tensor(float(here), device=fabric.device), reduce_op="max")
    assert isinstance(largest, Tensor)
    return int(largest)


def total(fabric: Fabric, values: Tensor) -> Tensor:
    """The sum over the ranks."""
    if fabric.world_size == 1:
        return values
    whole = fabric.all_reduce(values.to(fabric.device, copy=True), reduce_op="sum")
    assert isinstance(whole, Tensor)
    return whole


def summed(fabric: Fabric, sums: dict[str, Tensor], count: int) -> tuple[dict[str, Tensor], int]:
    """Sums by name, and counts, over the ranks, some of which may have none."""
    if fabric.world_size == 1:
        return sums, count
    everyones: list[Any] = [None] * fabric.world_size
    dist.all_gather_object(everyones, ({name: value.cpu() for name, value in sums.items()}, count))
    names = dict.fromkeys(name for some, _ in everyones for name in some)
    whole = {name: torch.stack([some[name] for some, _ in everyones if name in some]).sum(0) for name in names}
    return {name: value.to(fabric.device) for name, value in whole.items()}, sum(number for _, number in everyones)
