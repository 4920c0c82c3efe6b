"""The composition root: the one place that names adapters, reads configuration and is run."""
