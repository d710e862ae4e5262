"""Settings that came after results were published with the ones before: what a run that lacks one did.

It goes on, and is compared, as if it had said so.
"""

from collections.abc import Mapping
from typing import Any

# setting: (what it has to do with: no run without that one ever had it, its value in every run from before)
LATER = {"optimizer.damping": ("optimizer.cg_damping", "identity")}


def completed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Flat settings, ``{"optimizer.kl_limit": 0.01, …}``, with those that came later."""
    added = {key: value for key, (other, value) in LATER.items() if other in settings and key not in settings}
    return {**settings, **added}
