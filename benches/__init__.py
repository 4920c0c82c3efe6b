"""Benches: the system beside the machine's limits, and kernels beside their plain twins."""
