"""Trust Region Policy Optimization (Schulman et al., arXiv 1502.05477v5), from the command line.

Symbols used throughout: n lanes (simulated copies), T time steps, S simulator state, O observation, A action, Z noise,
P distribution parameters, D policy parameters θ, M decision states, K actions tried at a state, Q candidates.
"""
