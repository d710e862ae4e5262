"""The methods of Figure 4: policy updates (pure functions of a batch) and searches (ask, evaluate, tell).

Each is a frozen dataclass of hyperparameters; none keeps state, so a run can stop and go on between any two iterations.
"""
