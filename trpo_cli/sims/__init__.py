"""The simulators: pure functions of a batch of states (Section 8 of the paper); they use NumPy and no tensors."""
