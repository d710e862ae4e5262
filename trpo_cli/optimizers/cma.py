"""CMA-ES (Hansen), a derivative-free baseline of Figure 4, on the `cma` package.

The package keeps its search in an object; here the search is a dict of arrays from which that object is rebuilt for
each call. The arrays hold all that one iteration passes to the next, so a search that goes on from stored arrays asks
for the same candidates, bit for bit, as one that was never stopped.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trpo_cli.errors import ConfigError
from trpo_cli.optimizers.base import Arrays
from trpo_cli.optimizers.cem import best_first

if TYPE_CHECKING:
    import cma


@dataclass(frozen=True)
class Cma:
    """A Gaussian with a full covariance that follows the ranking of its candidates.

    State, in Hansen's symbols: ``mean``: `[D]`, ``sigma``: `[]` step size, ``C``: `[D, D]` covariance, ``B``: `[D, D]`
    and ``D``: `[D]` its eigenvectors and the roots of its eigenvalues when last decomposed, ``pc`` and ``ps``: `[D]`
    evolution paths, ``iteration``: `[]` count of `tell`, ``decomposed``: `[]` iteration of the last decomposition.

    Paper: it plots CMA and gives no settings; these are the authors' code's (package defaults, sigma 0.1). Two
    defaults are those of the authors' version: cumulative step-size adaptation in every dimension (the package now
    uses another one from 300 parameters on), and no change of coordinates if the covariance is ill-conditioned. The
    package's stopping criteria are not used: a run has as many iterations as it was given.
    """

    population: int  # candidates per iteration
    initial_std: float  # of every parameter at the start
    max_parameters: int  # larger policies are refused: decomposing the covariance would take too long

    def __post_init__(self) -> None:
        if self.population < 4:
            raise ConfigError(f"optimizer.population={self.population} must be at least 4")
        if not 0 < self.initial_std < np.inf:
            raise ConfigError(f"optimizer.initial_std={self.initial_std} must be > 0 and finite")
        if self.max_parameters < 2:
            raise ConfigError(f"optimizer.max_parameters={self.max_parameters} must be at least 2")

    def start(self, theta: NDArray) -> Arrays:
        """Return the state of a search that starts at ``theta``: `[D]`; ConfigError if D is too large."""
        if not 2 <= len(theta) <= self.max_parameters:
            raise ConfigError(
                f"optimizer=cma searches 2 to optimizer.max_parameters={self.max_parameters} parameters and this "
                f"policy has {len(theta)}; use optimizer=cem or another policy"
            )
        return _arrays(self._strategy(np.asarray(theta, dtype=np.float64)))

    def ask(self, state: Arrays, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the candidates `[Q, D]` of this iteration; all randomness comes from ``rng``."""

        def randn(*shape: int) -> NDArray[np.float64]:
            return rng.standard_normal(shape)

        return np.stack(self._rebuild(state, randn).ask())

    def tell(self, state: Arrays, thetas: NDArray, returns: NDArray) -> tuple[Arrays, dict[str, float]]:
        """Return the next state and the ``update/`` statistics.

        thetas: `[Q, D]` the candidates asked for. returns: `[Q]` of each; one that is not finite ranks worst.
        Raises RunError if no return is finite.
        """
        ranked = best_first(returns)
        strategy = self._rebuild(state, _no_randomness)
        # The package minimises and uses only the order, so the rank stands for minus the return.
        strategy.tell(list(thetas[ranked]), list(range(len(ranked))), check_points=False)
        strategy.sm.update_now()  # the next ask would do it too late: `_arrays` stores the result
        stats = {
            "update/best_return": float(returns[ranked[0]]),
            "update/mean_sampling_std": float(np.mean(strategy.stds)),
            "update/axis_ratio": float(strategy.sm.D[-1] / strategy.sm.D[0]),
            "update/n_not_finite": int((~np.isfinite(returns)).sum()),
        }
        return _arrays(strategy), stats

    def mean(self, state: Arrays) -> NDArray[np.float64]:
        """Return the centre of the search `[D]`: the parameters to evaluate or keep."""
        return state["mean"]

    def _strategy(self, mean: NDArray, randn: Callable[..., NDArray] | None = None) -> "cma.CMAEvolutionStrategy":
        """Return the package's object at the beginning of a search from ``mean``, silent."""
        import cma  # imported here: it takes a second, which other optimizers should not pay
        from cma.sigma_adaptation import CMAAdaptSigmaCSA

        options = {
            "popsize": self.population,
            "AdaptSigma": CMAAdaptSigmaCSA,
            "conditioncov_alleviate": False,  # None would be the package's default
            "randn": randn or _no_randomness,
            "verbose": -9,  # prints nothing
            "verb_log": 0,  # writes no files
        }
        return cma.CMAEvolutionStrategy(mean, self.initial_std, options)

    def _rebuild(self, state: Arrays, randn: Callable[..., NDArray]) -> "cma.CMAEvolutionStrategy":
        """Return the package's object as it stood when `_arrays` took ``state`` from it, ready to ask and to tell."""
        from cma.utilities.utils import ElapsedWCTime

        strategy = self._strategy(state["mean"], randn)
        strategy.countiter = int(state["iteration"])
        strategy.sigma = float(state["sigma"])
        strategy.pc = state["pc"].copy()
        strategy.mean_old = state["mean"].copy()
        sampler = strategy.sm
        sampler.C, sampler.D = state["C"].copy(), state["D"].copy()
        sampler.B = state["B"].copy(order="F")  # as LAPACK returns it: the layout decides how products round
        sampler.count_tell, sampler.last_update = int(state["iteration"]), int(state["decomposed"])
        strategy._updateBDfromSM(sampler)
        strategy.adapt_sigma.ps = state["ps"].copy()
        # What ask leaves behind for tell:
        strategy._flgtelldone = False
        strategy._is_independent_sample = [True] * self.population
        strategy.number_of_solutions_asked, strategy.number_of_injections = self.population, 0
        strategy.evaluations_per_f_value = 1
        strategy.timer = ElapsedWCTime()
        return strategy


def _no_randomness(*shape: int) -> NDArray[np.float64]:
    """A stand-in for the generator that the package asks for: outside of ask, nothing may be drawn."""
    raise AssertionError(f"a sample of shape {shape} was drawn outside ask")


def _arrays(strategy: "cma.CMAEvolutionStrategy") -> Arrays:
    """Return the state of a search held in the package's object."""
    sampler = strategy.sm
    return {
        "mean": strategy.mean.copy(),
        "sigma": np.array(strategy.sigma),
        "C": sampler.C.copy(),
        "B": sampler.B.copy(),
        "D": sampler.D.copy(),
        "pc": strategy.pc.copy(),
        "ps": strategy.adapt_sigma.ps.copy(),
        "iteration": np.array(strategy.countiter, dtype=np.int64),
        "decomposed": np.array(sampler.last_update, dtype=np.int64),
    }
