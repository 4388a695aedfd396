"""Scores and baselines of summaries, from text alone.

Read in this order:

1. ``tokenizers`` and ``sentences``: tokens and sentences of any script
2. ``rouge``: ROUGE (Lin 2004); ``pairwise_rouge`` computes it for all pairs of a list
3. ``text_statistics``: length, novelty, repetition, copying; ``corpus_metrics``: BLEU and chrF
4. ``extractive``: the baselines
5. ``systems``: all metrics of a model, a baseline or the references; ``parallel`` uses all cores
6. ``bootstrap``: intervals and tests over examples; ``alarms``: degenerate summaries
7. ``report`` runs all of it; ``signature`` names its settings, ``tables`` prints it
8. ``comparison`` and ``comparison_report``: where two systems differ
"""
