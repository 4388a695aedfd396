"""Attention blocks and the summarizers built from them, in pure torch."""
