"""How a trained model generates summaries.

Greedy search, sampling and beam search, under constraints. Pure torch.
"""
