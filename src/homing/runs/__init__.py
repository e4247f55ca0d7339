"""One run from data to a verdict and a model: its stages, what each depends on, and what its directory holds."""
