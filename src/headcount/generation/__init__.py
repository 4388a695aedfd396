"""How a trained model generates summaries: greedy search, sampling and beam search, under constraints. Pure torch."""
