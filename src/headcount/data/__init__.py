"""Documents and summaries: where they come from, their tokens, their batches."""
