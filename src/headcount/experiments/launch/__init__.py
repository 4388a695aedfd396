"""Launchers of a study's cells: on this machine, as a SLURM job array, or as a W&B sweep."""
