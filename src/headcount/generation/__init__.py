"""How a trained model generates summaries, in pure torch.

Read in this order:

1. ``generate``: chooses the search of a config; greedy search and sampling
2. ``beam_search``: beam search and its diverse form
3. ``consensus``: minimum Bayes risk, a choice among what the other searches find
4. ``constraints``: on the next token, in every search
5. ``ensemble``: several models that generate as one, which every search takes for a model
6. ``hypothesis``: a generated summary
"""
