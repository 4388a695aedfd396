"""Callbacks of the Lightning Trainer, one role each."""
