"""Pages to look at: one HTML file each, without any network.

The attention page shows what a summarizer writes and attends to. Read in this order:

1. ``pieces``: the text of each token
2. ``maps``: attention weights as rounded bytes
3. ``explain``: what a model wrote for a document, with probabilities and attention
4. ``heads_off``: the summaries without some of the heads
5. ``payload``: all of it for the documents and runs of a page; ``examples`` chooses them
6. ``server``: the same page with a text box, for ``headcount serve``

``study`` is the content of a study's page, ``comparison`` that of a comparison of runs.

``html`` puts a file together: ``template.html``, the elements and styles of a kind of page, and
modules of ``modules/``, which begin with ``attention``, ``study`` and ``comparison``.
"""
