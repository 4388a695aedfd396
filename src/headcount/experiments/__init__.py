"""Studies: a grid of trainings from one file, run anywhere, each once."""
