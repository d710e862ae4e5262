"""The cross-entropy method (Szita and Lorincz 2006), a derivative-free baseline of Figure 4.

A search is a value: `start` makes a state, `ask` draws candidates from it, `tell` turns their returns into the next
state. It knows parameters and returns, and nothing of policies or episodes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trpo_cli.errors import ConfigError, RunError
from trpo_cli.optimizers.base import Arrays


def best_first(returns: NDArray) -> NDArray[np.int64]:
    """Return the order of the candidates, best first; every non-finite return comes last.

    returns: `[Q]` of the candidates. Raises RunError if none is finite: there is no order then.
    """
    finite = np.isfinite(returns)
    if not finite.any():
        raise RunError(f"none of the {len(returns)} candidates has a finite return: the search cannot go on")
    return np.argsort(np.where(finite, -returns, np.inf), kind="stable")


@dataclass(frozen=True)
class Cem:
    """Independent Gaussians refitted to the best candidates of each population.

    State: ``mean``: `[D]`, ``variance``: `[D]` of the best candidates, ``iteration``: `[]` count of `tell`.

    Paper: it cites the method only. The settings and two quirks are the authors' code's: the number called
    "initial_std" there enters as a variance, and the extra variance is constant for its iterations, then zero (an
    integer division has replaced a linear decay).
    """

    population: int  # candidates per iteration
    elite_fraction: float  # the best fraction of the population, which the Gaussians are refitted to
    initial_variance: float  # of every parameter at the start
    extra_variance: float  # added to every parameter's variance in the first iterations
    extra_iterations: int  # how many iterations the extra variance lasts

    def __post_init__(self) -> None:
        if self.population < 2:
            raise ConfigError(f"optimizer.population={self.population} must be at least 2")
        if not 0 < self.elite_fraction <= 1:
            raise ConfigError(f"optimizer.elite_fraction={self.elite_fraction} must be above 0 and at most 1")
        if self.n_elite < 2:
            raise ConfigError(
                f"optimizer.elite_fraction={self.elite_fraction} of optimizer.population={self.population} leaves "
                f"{self.n_elite} candidates; at least 2 are needed for a variance"
            )
        if not 0 < self.initial_variance < np.inf:
            raise ConfigError(f"optimizer.initial_variance={self.initial_variance} must be > 0 and finite")
        if not 0 <= self.extra_variance < np.inf:
            raise ConfigError(f"optimizer.extra_variance={self.extra_variance} must be >= 0 and finite")
        if self.extra_iterations < 0:
            raise ConfigError(f"optimizer.extra_iterations={self.extra_iterations} must be >= 0")

    @property
    def n_elite(self) -> int:
        """How many candidates the Gaussians are refitted to."""
        return round(self.population * self.elite_fraction)

    def start(self, theta: NDArray) -> Arrays:
        """Return the state of a search that starts at ``theta``: `[D]`."""
        mean = np.array(theta, dtype=np.float64)
        return {
            "mean": mean,
            "variance": np.full_like(mean, self.initial_variance),
            "iteration": np.zeros((), dtype=np.int64),
        }

    def ask(self, state: Arrays, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the candidates `[Q, D]` of this iteration; all randomness comes from ``rng``."""
        noise = rng.standard_normal((self.population, len(state["mean"])))
        return state["mean"] + self._sampling_std(state) * noise

    def tell(self, state: Arrays, thetas: NDArray, returns: NDArray) -> tuple[Arrays, dict[str, float]]:
        """Return the next state and the ``update/`` statistics.

        thetas: `[Q, D]` the candidates asked for. returns: `[Q]` of each; one that is not finite ranks worst.
        Raises RunError if no return is finite.
        """
        ranked = best_first(returns)
        elite = ranked[: self.n_elite]
        after = {
            "mean": thetas[elite].mean(axis=0),
            "variance": thetas[elite].var(axis=0),
            "iteration": np.asarray(state["iteration"] + 1),
        }
        stats = {
            "update/best_return": float(returns[ranked[0]]),
            "update/elite_return": float(np.mean(returns[elite], where=np.isfinite(returns[elite]))),
            "update/mean_sampling_std": float(self._sampling_std(after).mean()),
            "update/n_not_finite": int((~np.isfinite(returns)).sum()),
        }
        return after, stats

    def mean(self, state: Arrays) -> NDArray[np.float64]:
        """Return the centre of the search `[D]`: the parameters to evaluate or keep."""
        return state["mean"]

    def _sampling_std(self, state: Arrays) -> NDArray[np.float64]:
        """Return the standard deviation `[D]` of each parameter in the next population."""
        extra = self.extra_variance if state["iteration"] < self.extra_iterations else 0.0
        return np.sqrt(state["variance"] + extra)
