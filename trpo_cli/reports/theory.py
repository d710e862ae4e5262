"""The bound of Theorem 1 and the steps of Algorithm 1, drawn on random tabular problems."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trpo_cli.reports import tabular
from trpo_cli.reports.tables import markdown, write_csv

N_STATES, N_ACTIONS, GAMMA = 8, 4, 0.3
GAMMAS = (0.3, 0.5, 0.7, 0.9)
N_PAIRS, N_PROBLEMS, N_ITERATIONS = 300, 4, 20


def report(out: Path, seed: int) -> str:
    """Draw ``theory.png`` and write ``theory.csv`` into ``out``. Return the results as text.

    seed: of the random problems and policies
    """
    figure = Figure(figsize=(15, 4.6), layout="constrained")
    along, pairs, iterations = (figure.add_subplot(1, 3, i + 1) for i in range(3))
    _draw_one_direction(along, np.random.default_rng(seed))
    rows = _random_pairs(np.random.default_rng(seed))
    _draw_pairs(pairs, np.array([[true, bound] for _, true, _, bound, _ in rows]))
    lines = _draw_algorithm_1(iterations, seed)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "theory.png", dpi=120)
    write_csv(out / "theory.csv", ["gamma", "improvement", "surrogate", "bound", "max_kl"], rows)
    held = sum(true >= bound for _, true, _, bound, _ in rows)
    above = sum(local > true for _, true, local, _, _ in rows)
    found = f"Eq. 9 held for {held} of {len(rows)} random pairs; the surrogate alone was too large for {above}."
    headers = ["gamma", "C", "max KL of the first step", "share of the possible improvement after the last"]
    return "\n\n".join([found, markdown(headers, lines)])


def _draw_one_direction(axes: Axes, rng: np.random.Generator) -> None:
    """Draw η, L and the bounds along a line: from a random policy, through the step of Algorithm 1, and beyond it."""
    mdp = tabular.random_mdp(rng, N_STATES, N_ACTIONS, GAMMA)
    old = tabular.random_policy(rng, mdp)
    best, base = tabular.policy_iteration_step(mdp, old), tabular.expected_return(mdp, old)
    direction = np.log(best) - np.log(old)
    lengths = np.linspace(0.0, 12.0, 121)
    curves = np.zeros((4, len(lengths)))
    for i, length in enumerate(lengths):
        new = tabular.softmax(np.log(old) + length * direction)
        curves[0, i] = tabular.surrogate(mdp, old, new) - base
        curves[1, i] = tabular.expected_return(mdp, new) - base
        curves[2, i] = tabular.total_variation_bound(mdp, old, new) - base
        curves[3, i] = tabular.lower_bound(mdp, old, new) - base
    names = ("surrogate L (Eq. 3)", "true η", "bound in total variation (Eq. 8)", "bound in KL (Eq. 9)")
    for curve, name, style in zip(curves, names, ("--", "-", "-.", "-"), strict=True):
        axes.plot(lengths, curve, style, label=name)
    highest = curves[:2].max()
    axes.set_ylim(-highest / 2, 1.05 * highest)
    axes.axvline(1.0, color="0.6", linewidth=0.8)
    axes.axhline(0.0, color="0.6", linewidth=0.8)
    axes.annotate("Algorithm 1", (1.0, -highest / 2), xytext=(4, 4), textcoords="offset points", fontsize=8)
    axes.set_xlabel("step from the old policy, in steps of Algorithm 1")
    axes.set_ylabel("improvement over η(old)")
    axes.set_title(f"One direction (γ = {GAMMA}, {N_STATES} states, {N_ACTIONS} actions)")
    axes.legend(fontsize=8)


def _random_pairs(rng: np.random.Generator) -> list[tuple[float, float, float, float, float]]:
    """Return for random pairs of policies: γ, the improvements of η, of the surrogate and of the bound, the max KL."""
    rows = []
    for i in range(N_PAIRS):
        mdp = tabular.random_mdp(rng, N_STATES, N_ACTIONS, GAMMAS[i % len(GAMMAS)])
        old = tabular.random_policy(rng, mdp)
        distance = 10 ** rng.uniform(-2.5, 0.0)
        new = tabular.softmax(np.log(old) + distance * rng.standard_normal(old.shape))
        base = tabular.expected_return(mdp, old)
        true = tabular.expected_return(mdp, new) - base
        local, bound = tabular.surrogate(mdp, old, new) - base, tabular.lower_bound(mdp, old, new) - base
        rows.append((mdp.gamma, true, local, bound, tabular.max_kl(old, new)))
    return rows


def _draw_pairs(axes: Axes, points: np.ndarray) -> None:
    """Draw each pair as a point: the bound on the improvement, the true one. No point may lie under the diagonal."""
    axes.scatter(points[:, 1], points[:, 0], s=8, alpha=0.6)
    ends = np.array([points.min(), points.max()])
    axes.plot(ends, ends, color="0.4", linewidth=0.8, label="improvement = bound")
    ticks = [-100.0, -1.0, -0.01, 0.0, 0.01, 1.0]
    axes.set_xscale("symlog", linthresh=1e-3)
    axes.set_yscale("symlog", linthresh=1e-3)
    axes.set_xticks(ticks)
    axes.set_yticks(ticks)
    axes.set_ylim(1.5 * points[:, 0].min(), 1.5 * points[:, 0].max())
    axes.set_xlabel("bound on the improvement (Eq. 9)")
    axes.set_ylabel("true improvement")
    axes.set_title(f"{len(points)} random pairs of policies")
    axes.legend(fontsize=8, loc="lower right")


def _draw_algorithm_1(axes: Axes, seed: int) -> list[list[str]]:
    """Draw how much of the possible improvement Algorithm 1 makes. Return the lines of the table of its steps."""
    lines = []
    for gamma in GAMMAS:
        shares, first, coefficients = [], [], []
        for problem in range(N_PROBLEMS):
            rng = np.random.default_rng([seed, problem])
            mdp = tabular.random_mdp(rng, N_STATES, N_ACTIONS, gamma)
            old = tabular.random_policy(rng, mdp)
            returns = tabular.policy_iteration(mdp, old, N_ITERATIONS)
            shares.append((returns - returns[0]) / (tabular.optimal_return(mdp) - returns[0]))
            first.append(tabular.max_kl(old, tabular.policy_iteration_step(mdp, old)))
            coefficients.append(tabular.penalty(mdp, old))
        mean = np.mean(shares, axis=0)
        axes.plot(np.arange(N_ITERATIONS + 1), mean, label=f"γ = {gamma}")
        lines.append([f"{gamma}", f"{np.mean(coefficients):.3g}", f"{np.mean(first):.2g}", f"{mean[-1]:.1%}"])
    axes.set_xlabel("iterations of Algorithm 1")
    axes.set_ylabel("share of the possible improvement")
    axes.set_xticks(range(0, N_ITERATIONS + 1, 5))
    axes.set_title(f"Algorithm 1 never loses (mean of {N_PROBLEMS} problems)")
    axes.legend(fontsize=8)
    return lines
