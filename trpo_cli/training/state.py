"""The state of a run between two iterations: one value, which a checkpoint holds."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import nan
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from trpo_cli.critics.base import CriticState
from trpo_cli.optimizers.base import Arrays
from trpo_cli.policies.base import InputMap
from trpo_cli.policies.input_moments import InputMoments
from trpo_cli.samplers.streams import Streams


@dataclass(frozen=True)
class TrainingState:
    """All that one iteration passes to the next. Only this class knows the keys under which it is saved."""

    theta: Tensor  # [D] the policy's parameters; for a search, its centre
    input_map: InputMap  # the policy's
    search: Arrays | None = None  # arrays of a derivative-free search
    episode_length: float = nan  # steps of the last batch's mean episode; NaN before the first
    iteration: int = 0  # number of the next iteration
    sim_steps_total: int = 0  # environment steps simulated so far
    time_s: float = 0.0  # seconds spent iterating so far
    critic: CriticState | None = None  # of the value function
    inputs: InputMoments | None = None  # what a running input map is made of
    streams: Streams | None = None  # where the episodes stand that run on into the next iteration
    refused: int = 0  # iterations in a row, up to now, whose step was refused for the reason `refusal`
    refusal: str = ""
    average: Tensor | None = None  # [D] mean of the last policies, if the run keeps one; see `averaged`
    best: float | None = None  # highest score so far of an evaluation of `best_of` episodes
    best_of: int | None = None  # a score of fewer episodes is more often high by chance; None: not known
    score: float | None = None  # of the last evaluation, or of the last batch if there are none; ``stop_at`` reads it
    pending: Mapping[str, Any] | None = None  # numbers of one more iteration, whose evaluation is still to come

    @property
    def learnt(self) -> Tensor:
        """Parameters ``[D]`` of the policy that is evaluated, loaded and exported."""
        return self.theta if self.average is None else self.average

    def averaged(self, fraction: float) -> Self:
        """The state with ``theta`` in the mean of the policies of about the last ``fraction`` of all iterations.

        Weights rise with the iteration i as i^(1/fraction - 1) (polynomial-decay averaging; Shamir and Zhang 2013).
        A step on a small batch is noisy, and the mean of many steps is much less so. Training does not read the mean.
        """
        theta = self.theta.cpu()
        if self.average is None:
            return replace(self, average=theta)
        weight = min(1.0, 1 / (fraction * (self.iteration + 1)))
        return replace(self, average=self.average + weight * (theta - self.average))

    def to(self, device: str | torch.device) -> Self:
        """The state with the parameters that updates change on ``device``."""
        return replace(self, theta=self.theta.to(device))

    def to_dict(self) -> dict[str, Any]:
        """Tensors and numbers by name, on the processor, as a checkpoint holds them."""
        saved: dict[str, Any] = {
            "theta": self.theta.cpu(),
            "input_map": self.input_map.to_dict(),
            "episode_length": self.episode_length,
            "iteration": self.iteration,
            "sim_steps_total": self.sim_steps_total,
            "time_s": self.time_s,
        }
        for name in ("critic", "inputs", "streams"):
            if (part := getattr(self, name)) is not None:
                saved[name] = part.to_dict()
        saved |= {
            name: value
            for name in ("average", "best", "best_of", "score")
            if (value := getattr(self, name)) is not None
        }
        if self.pending is not None:
            saved["pending"] = {key: x.item() if hasattr(x, "item") else x for key, x in self.pending.items()}
        if self.refused:
            saved |= {"refused": self.refused, "refusal": self.refusal}
        if self.search is not None:
            saved["search"] = {key: torch.as_tensor(np.asarray(value)) for key, value in self.search.items()}
        return saved

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Self:
        """The state that ``to_dict`` saved."""
        search = saved.get("search")
        return cls(
            theta=saved["theta"],
            input_map=InputMap.from_dict(saved["input_map"]),
            critic=CriticState.from_dict(saved["critic"]) if "critic" in saved else None,
            inputs=InputMoments.from_dict(saved["inputs"]) if "inputs" in saved else None,
            streams=Streams.from_dict(saved["streams"]) if "streams" in saved else None,
            search=None if search is None else {key: value.numpy() for key, value in search.items()},
            episode_length=saved["episode_length"],
            iteration=saved["iteration"],
            sim_steps_total=saved["sim_steps_total"],
            time_s=saved["time_s"],
            average=saved.get("average"),
            best=saved.get("best"),
            best_of=saved.get("best_of"),
            score=saved.get("score"),
            pending=saved.get("pending"),
            refused=saved.get("refused", 0),
            refusal=saved.get("refusal", ""),
        )
