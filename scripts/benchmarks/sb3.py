"""Times sb3-contrib's TRPO on Hopper-v5: ``python sb3.py STEPS ITERATIONS ENVIRONMENTS`` prints its steps per second.

This program imports nothing of ours, so that the peer runs as its users run it.
"""

import json
import sys
from time import perf_counter

from sb3_contrib import TRPO
from stable_baselines3.common.env_util import make_vec_env


def main(n_steps: int, iterations: int, n_envs: int) -> None:
    """Time ``iterations`` of ``n_steps`` each. If there are several, one more comes first and is not counted."""
    envs = make_vec_env("Hopper-v5", n_envs=n_envs, seed=0)
    # gamma, the number of conjugate gradient iterations and the network are those of our run. The rest is its default.
    model = TRPO("MlpPolicy", envs, n_steps=n_steps // n_envs, gamma=0.99, cg_max_steps=10, seed=0, device="cpu")
    if iterations > 1:
        model.learn(n_steps)
    start = perf_counter()
    model.learn(iterations * n_steps, reset_num_timesteps=False)
    print(json.dumps(iterations * n_steps / (perf_counter() - start)))


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
