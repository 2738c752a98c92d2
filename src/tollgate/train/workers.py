"""One training on several processes, as `torchrun` starts them: each takes a share of every batch.

All see the same data and draw the same order, so any number of them takes the same steps, up to rounding and dropout.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tollgate.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Workers:
    """Which of how many processes this is; the first is 0 and the only one that shows and stores anything."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this is the first process."""
        return self.rank == 0

    def share(self, rows: Tensor) -> Tensor:
        """Return this process's share of a batch, at least one row of it."""
        if self.size == 1:
            return rows
        mine = rows[self.rank :: self.size]
        return mine if mine.numel() else rows[-1:]

    def wrap(self, body: nn.Module) -> nn.Module:
        """Return `body` with gradients that are the mean over all processes."""
        return body if self.size == 1 else DistributedDataParallel(body)

    def agree(self, value: float) -> float:
        """Return the first process's value, so that all stop at the same epoch."""
        if self.size == 1:
            return value
        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        shared = torch.tensor([value], dtype=torch.float64, device=device)
        torch.distributed.broadcast(shared, 0)
        return float(shared)


ALONE = Workers()


@contextlib.contextmanager
def joined(environment: Mapping[str, str]) -> Iterator[Workers]:
    """Join the processes that `torchrun` started, if it started this one.

    Args:
        environment: Of the process: RANK, WORLD_SIZE and LOCAL_RANK.

    Raises:
        ConfigError: The variables are not numbers.
    """
    if "WORLD_SIZE" not in environment:
        yield ALONE
        return
    try:
        workers = Workers(*(int(environment[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
    except (KeyError, ValueError) as error:
        raise ConfigError(
            "bad_workers", f"expected RANK, WORLD_SIZE and LOCAL_RANK as torchrun sets them, but: {error}"
        ) from error
    torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield workers
        torch.distributed.barrier()  # none leaves while another still talks to it
    finally:
        torch.distributed.destroy_process_group()
        gc.collect()  # a wrapped network is a cycle that holds the group, whose threads abort an interpreter that ends
