"""Networks from observations to distribution parameters, with the products J v and Jᵀ u of Appendix C."""

from trpo_cli.policies.conv import Conv as Conv
from trpo_cli.policies.conv import ConvOfAnyAction as ConvOfAnyAction
from trpo_cli.policies.mlp import Mlp as Mlp
