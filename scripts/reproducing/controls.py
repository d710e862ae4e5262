"""The benchmark's controls: sb3-contrib's TRPO and stable-baselines3's PPO with the settings that RL Zoo publishes.

``python controls.py HalfCheetah-v5 trpo SEED STEPS FOLDER`` trains one, and writes ``control.json`` into the folder.
This program imports nothing of ours, so that the controls run as their users run them.

Settings: RL Zoo, hyperparams/trpo.yml (13a3fe7) and hyperparams/ppo.yml (00128b5), for the newest version of each task
that stands there. TRPO's settings for MuJoCo are used for the four tasks that it does not list, and PPO's defaults with
normalised inputs and rewards for the one that it does not list (Pusher).
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from sb3_contrib import TRPO
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

EPISODES = 20  # of an evaluation
EVALUATION_SEED = 1_000_000

Settings = dict[str, Any]  # "normalize" and "n_envs" are RL Zoo's words; the rest are arguments of the algorithm

TRPO_MUJOCO: Settings = {
    "normalize": True,
    "n_envs": 2,
    "n_steps": 1024,
    "batch_size": 128,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "sub_sampling_factor": 1,
    "cg_max_steps": 25,
    "cg_damping": 0.1,
    "n_critic_updates": 20,
    "learning_rate": 1e-3,
}
TRPO_SETTINGS: dict[str, Settings] = {
    "HalfCheetah-v5": TRPO_MUJOCO | {"target_kl": 0.04},
    "Swimmer-v5": TRPO_MUJOCO | {"gamma": 0.9999},
    "CartPole-v1": {
        "n_envs": 2,
        "n_steps": 512,
        "batch_size": 512,
        "cg_damping": 1e-3,
        "gae_lambda": 0.98,
        "gamma": 0.99,
        "learning_rate": 1e-3,
        "n_critic_updates": 20,
    },
    "Acrobot-v1": {"normalize": True, "n_envs": 2, "n_steps": 1024},
    "Pendulum-v1": {
        "n_envs": 2,
        "n_steps": 1024,
        "gamma": 0.9,
        "n_critic_updates": 15,
        "use_sde": True,
        "sde_sample_freq": 4,
    },
    "MountainCarContinuous-v0": {"normalize": True, "n_envs": 2, "use_sde": True, "sde_sample_freq": 4},
    "LunarLander-v3": {
        "n_envs": 2,
        "n_steps": 512,
        "cg_damping": 0.01,
        "gae_lambda": 0.98,
        "gamma": 0.99,
        "learning_rate": 1e-3,
        "n_critic_updates": 15,
    },
}


def _linear(start: float) -> Callable[[float], float]:
    """A value that falls from ``start`` to 0 during training."""
    return lambda remaining: remaining * start


def _wide(log_std: float) -> Settings:
    """The policy's network and initial standard deviation in several of RL Zoo's settings."""
    layers = {"pi": [256, 256], "vf": [256, 256]}
    return {"log_std_init": log_std, "ortho_init": False, "activation_fn": torch.nn.ReLU, "net_arch": layers}


TUNED = (
    *("batch_size", "n_steps", "gamma", "learning_rate", "ent_coef"),
    *("clip_range", "n_epochs", "gae_lambda", "max_grad_norm", "vf_coef"),
)


def _tuned(*numbers: float, **more: Any) -> Settings:
    """One of RL Zoo's tuned settings for a MuJoCo task: the numbers of `TUNED`, in the order of its file."""
    return {"normalize": True, "n_envs": 1, **dict(zip(TUNED, numbers, strict=True)), **more}


PPO_MUJOCO: Settings = {"normalize": True, "n_envs": 1}
PPO_SETTINGS: dict[str, Settings] = {
    "Swimmer-v5": PPO_MUJOCO | {"gamma": 0.9999},
    "HalfCheetah-v5": _tuned(
        64, 512, 0.98, 2.0633e-05, 0.000401762, 0.1, 20, 0.92, 0.8, 0.58096, policy_kwargs=_wide(-2)
    ),
    "Hopper-v5": _tuned(32, 512, 0.999, 9.80828e-05, 0.00229519, 0.2, 5, 0.99, 0.7, 0.835671, policy_kwargs=_wide(-2)),
    "Humanoid-v5": _tuned(256, 512, 0.95, 3.56987e-05, 0.00238306, 0.3, 5, 0.9, 2, 0.431892, policy_kwargs=_wide(-2)),
    "InvertedDoublePendulum-v5": _tuned(512, 128, 0.98, 0.000155454, 1.05057e-06, 0.4, 10, 0.8, 0.5, 0.695929),
    "InvertedPendulum-v5": _tuned(64, 32, 0.999, 0.000222425, 1.37976e-07, 0.4, 5, 0.9, 0.3, 0.19816),
    "Reacher-v5": _tuned(32, 512, 0.9, 0.000104019, 7.52585e-08, 0.3, 5, 1.0, 0.9, 0.950368),
    "Walker2d-v5": _tuned(32, 512, 0.99, 5.05041e-05, 0.000585045, 0.1, 20, 0.95, 1, 0.871923),
    "CartPole-v1": {
        "n_envs": 8,
        "n_steps": 32,
        "batch_size": 256,
        "gae_lambda": 0.8,
        "gamma": 0.98,
        "n_epochs": 20,
        "learning_rate": _linear(0.001),
        "clip_range": _linear(0.2),
    },
    "Acrobot-v1": {"normalize": True, "n_envs": 16, "n_steps": 256, "gae_lambda": 0.94, "gamma": 0.99, "n_epochs": 4},
    "Pendulum-v1": {
        "n_envs": 4,
        "n_steps": 1024,
        "gae_lambda": 0.95,
        "gamma": 0.9,
        "n_epochs": 10,
        "learning_rate": 1e-3,
        "clip_range": 0.2,
        "use_sde": True,
        "sde_sample_freq": 4,
    },
    "MountainCarContinuous-v0": {
        "normalize": True,
        "n_envs": 1,
        "batch_size": 256,
        "n_steps": 8,
        "gamma": 0.9999,
        "learning_rate": 7.77e-05,
        "ent_coef": 0.00429,
        "clip_range": 0.1,
        "n_epochs": 10,
        "gae_lambda": 0.9,
        "max_grad_norm": 5,
        "vf_coef": 0.19,
        "use_sde": True,
        "policy_kwargs": {"log_std_init": -3.29, "ortho_init": False},
    },
    "LunarLander-v3": {
        "n_envs": 16,
        "n_steps": 1024,
        "batch_size": 64,
        "gae_lambda": 0.98,
        "gamma": 0.999,
        "n_epochs": 4,
        "ent_coef": 0.01,
    },
    "BipedalWalker-v3": {
        "normalize": True,
        "n_envs": 32,
        "n_steps": 2048,
        "batch_size": 64,
        "gae_lambda": 0.95,
        "gamma": 0.999,
        "n_epochs": 10,
        "learning_rate": 3e-4,
        "clip_range": 0.18,
    },
}
ALGORITHMS: dict[str, tuple[type[BaseAlgorithm], dict[str, Settings], Settings, str]] = {
    "trpo": (TRPO, TRPO_SETTINGS, TRPO_MUJOCO, "sb3_contrib"),
    "ppo": (PPO, PPO_SETTINGS, PPO_MUJOCO, "stable_baselines3"),
}


class Curve(BaseCallback):
    """The mean return of the last 100 episodes after every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.points: list[tuple[int, float]] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        returns = [episode["r"] for episode in self.model.ep_info_buffer or []]
        if returns:
            self.points.append((self.num_timesteps, float(np.mean(returns))))


@dataclass(frozen=True)
class Learnt:
    """A control after its training."""

    model: BaseAlgorithm
    envs: VecEnv  # they know how inputs were scaled
    curve: list[tuple[int, float]]  # environment steps, mean return
    wall_s: float


def learn(env: str, algorithm: str, seed: int, steps: int) -> Learnt:
    """Train one control."""
    kind, settings, otherwise, _ = ALGORITHMS[algorithm]
    chosen = dict(settings.get(env, otherwise))
    normalize, n_envs = chosen.pop("normalize", False), chosen.pop("n_envs")
    envs: VecEnv = make_vec_env(env, n_envs=n_envs, seed=seed)
    if normalize:
        envs = VecNormalize(envs, gamma=chosen.get("gamma", 0.99))
    start = perf_counter()
    model = kind("MlpPolicy", envs, seed=seed, device="cpu", **chosen)
    curve = Curve()
    model.learn(steps, callback=curve)
    return Learnt(model, envs, curve.points, perf_counter() - start)


def train(env: str, algorithm: str, seed: int, steps: int) -> dict[str, Any]:
    """Train and evaluate one control; what `control.json` holds."""
    learnt, package = learn(env, algorithm, seed, steps), ALGORITHMS[algorithm][3]
    every = max(len(learnt.curve) // 100, 1)
    return {
        "env": env,
        "algorithm": algorithm,
        "implementation": package,
        "version": version(package),
        "seed": seed,
        "steps": learnt.model.num_timesteps,
        "wall_s": learnt.wall_s,
        "returns_greedy": evaluate(learnt, env, greedy=True),
        "returns_stochastic": evaluate(learnt, env, greedy=False),
        "curve": learnt.curve[::-every][::-1],
    }


def evaluate(learnt: Learnt, env: str, greedy: bool) -> list[float]:
    """Returns of whole episodes under the final policy, with the inputs scaled as at the end of training."""
    envs: VecEnv = make_vec_env(env, n_envs=1, seed=EVALUATION_SEED)
    if isinstance(learnt.envs, VecNormalize):
        envs = VecNormalize(envs, training=False, norm_reward=False)
        envs.obs_rms = learnt.envs.obs_rms
    returns: list[float] = []
    total = 0.0
    obs: Any = envs.reset()
    while len(returns) < EPISODES:
        action, _ = learnt.model.predict(obs, deterministic=greedy)
        obs, rewards, done, _ = envs.step(action)
        total += float(rewards[0])
        if done[0]:
            returns.append(total)
            total = 0.0
    return returns


def main(env: str, algorithm: str, seed: str, steps: str, folder: str) -> None:
    """Train one control, unless its result is there."""
    path = Path(folder) / "control.json"
    if path.exists():
        return
    torch.set_num_threads(1)
    result = train(env, algorithm, int(seed), int(steps))
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_suffix(".tmp")
    staged.write_text(json.dumps(result) + "\n")
    staged.replace(path)
    greedy = np.mean(result["returns_greedy"])
    print(f"{env} {algorithm} seed {seed}: greedy {greedy:.5g} after {result['wall_s']:.0f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
