"""The pages of a run, a study and a comparison: one HTML file each, which needs no network.

The attention page shows generated summaries and the attention behind them. Read in this order:

1. ``pieces``: the text of each token
2. ``maps``: attention weights as rounded bytes
3. ``explain``: a generated summary with its probabilities and attention
4. ``heads_off``: the summaries without some of the heads
5. ``payload``: the whole content of a page, as JSON; ``examples`` chooses the documents
6. ``server``: the same page with a text box, for ``headcount serve``

``study`` is the content of a study's page, ``comparison`` that of a comparison of runs.

``html`` assembles a file from ``template.html``, the elements and styles of a kind of page, and
scripts of ``modules/``, whose entry points are ``attention``, ``study`` and ``comparison``.
"""
