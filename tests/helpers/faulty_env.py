"""A cart-pole that fails when it is told to, ``env._target_=faulty_env.Faulty``, and commands that run it.

The environment variable FAULT holds ``kind:worker:iteration``; without it every row is the cart-pole's own.
"""

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch.distributed as dist

from trpo_cli.sims.base import Floats, Step
from trpo_cli.sims.cartpole import CartPole

begun = {"iterations": 0}  # by this process


@dataclass(frozen=True)
class Faulty(CartPole):
    """The cart-pole until the fault's iteration has begun in the fault's worker."""

    def reset(self, rngs):
        begun["iterations"] += 1
        return super().reset(rngs)

    def step(self, states: Floats, actions: Floats) -> Step:
        kind, worker, iteration = os.environ.get("FAULT", "none:0:0").split(":")
        rank = dist.get_rank() if dist.is_initialized() else 0
        if rank == int(worker) and begun["iterations"] > int(iteration):
            _fail(kind)
        return super().step(states, actions)


def _fail(kind: str) -> None:
    if kind == "slow":
        time.sleep(0.02)
    elif kind == "stuck":
        Path("stuck").touch()
        time.sleep(600)
    elif kind == "error":
        raise ValueError("the pole is broken\n" + "x" * 100_000)
    elif kind == "memory":
        raise MemoryError
    elif kind == "exit":
        sys.exit(0)
    elif kind == "vanish":
        os._exit(0)
    elif kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
