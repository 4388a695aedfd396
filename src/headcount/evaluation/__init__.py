"""Scores and baselines of summaries, from text alone."""
