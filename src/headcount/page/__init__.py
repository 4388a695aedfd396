"""A page to look at what a summarizer writes and attends to: one HTML file without any network.

Read in this order:

1. ``pieces``: the text of each token
2. ``maps``: attention weights as rounded bytes
3. ``explain``: what a model wrote for a document, with probabilities and attention
4. ``heads_off``: the summaries without some of the heads
5. ``payload``: all of it for the documents and runs of a page
6. ``html``: the file, put together of ``template.html``, ``style.css`` and the modules of
   ``modules/``
7. ``server``: the same page with a text box, for ``headcount serve``
"""
