"""A page to look at what a summarizer writes and attends to: one HTML file without any network.

Read in this order:

1. ``pieces``: the text of each token
2. ``blocks``: the attention blocks of a model, their weights, and switching heads off
3. ``maps``: attention weights as rounded bytes
4. ``explain``: what a model wrote for a document, with probabilities and attention
5. ``heads_off``: the summaries without some of the heads
6. ``payload``: all of it for the documents and runs of a page
7. ``html``: the file, put together of ``template.html``, ``style.css`` and the modules of
   ``modules/``
8. ``server``: the same page with a text box, for ``headcount serve``
"""
