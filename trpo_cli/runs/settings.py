"""Settings that came after results were published: what a run from before them did.

Such a run goes on, and is compared, as if it had said so.
"""

from collections.abc import Mapping
from typing import Any

# setting: (the one that it came to stand beside, its value in every run from before)
LATER = {
    "optimizer.damping": ("optimizer.cg_damping", "identity"),
    "optimizer.fisher_min_states": ("optimizer.fisher_fraction", 0),
    "sampler.steps_per_iteration": ("sampler.n_trunks", None),
    "sampler.trunk_steps": ("sampler.n_trunks", None),
    "task.vine.proposal": ("task.vine.n_trunks", "policy"),
    "task.vine.steps_per_iteration": ("task.vine.n_trunks", None),
    "task.vine.trunk_steps": ("task.vine.n_trunks", None),
}
# setting: (another, and the value of that under which it has no effect)
WITHOUT_EFFECT = {"optimizer.fisher_min_states": ("optimizer.fisher_fraction", 1.0)}


def completed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Flat settings, ``{"optimizer.kl_limit": 0.01, …}``, with those that came later and without the ineffective."""
    added = {key: value for key, (other, value) in LATER.items() if other in settings and key not in settings}
    whole = {**settings, **added}
    useless = {key for key, (other, value) in WITHOUT_EFFECT.items() if whole.get(other) == value}
    return {key: value for key, value in whole.items() if key not in useless}
