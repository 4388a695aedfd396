"""A run on disk: folder, checkpoints, metrics, partial predictions, scores, and its W&B run."""
