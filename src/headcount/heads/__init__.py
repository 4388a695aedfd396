"""Which heads matter: importance, ablation, roles and pruning of a trained summarizer's heads.

Read in this order:

1. ``blocks``: the heads of a model by name, and gates that switch them off
2. ``importance``: gradient importance (Michel et al. 2019, section 4)
3. ``ablation``: switching heads off by zero, by their mean or by resampling
4. ``attention_maps``, ``attention_statistics`` and ``roles``: what a head attends to
5. ``measure``: loss and ROUGE of each document under a setting of the gates; ``encodings``
   remembers what the encoder has computed
6. ``statistics``: tests that are paired by document
7. ``curve``: ROUGE against the number of heads kept, by several orders and random controls
8. ``prune``: removing heads from a model permanently
9. ``analysis`` runs all of it; ``tables``, ``plots`` and ``findings`` present it
10. ``across``: several runs compared, such as the seeds of one model, and ``across_report``

``attention_files`` writes attention maps for other programs.
"""
