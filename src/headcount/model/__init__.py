"""Attention blocks and the summarizers built from them, in pure torch.

Read in this order:

1. ``ragged``: how a batch holds examples of different lengths without padding
2. ``positions``, ``dropout`` and ``attention_kernels``: positional encodings; dropout; the
   attention formula and its fast kernels
3. ``attention`` and ``additive_attention``: the attention blocks
4. ``layers``: the residual layer of Transformers
5. ``output`` and ``copying``: the prediction and its loss, and those of the pointer-generator
6. ``base``: what all summarizers have in common
7. ``transformer``, ``gpt`` and ``recurrent``: the architectures; ``decoder_cache`` keeps what
   generation has computed
8. ``build`` makes a model from a config; ``cost`` counts its parameters and FLOPs;
   ``trained_weights`` checks that weights belong to a config
9. ``attention_blocks`` names the blocks of a model; ``head_gates`` learns gates on their heads

Shapes are suffixes of names: ``query_NHK`` is tokens x heads x head_dim. Each letter has one
meaning in this package, in ``generation`` and in their tests.
"""

SHAPE_LETTERS = {
    "A": "heads of all attention blocks, end to end",
    "B": "examples (documents) of a batch",
    "C": "slots of a cache, or rows of a position table",
    "D": "embedding_size",
    "G": "heads that share a key-value head, or hypotheses of a beam group",
    "H": "num_heads",
    "J": "num_kv_heads",
    "K": "head_dim",
    "L": "document and summary tokens of all examples, end to end",
    "M": "summary or source tokens of all examples, end to end",
    "N": "document or target tokens of all examples, end to end",
    "Q": "tokens of an n-gram window",
    "R": "rows of any kind",
    "S": "source (document) tokens of one example",
    "T": "target (summary) tokens of one example",
    "V": "vocabulary_size",
    "W": "hypotheses of one document",
    "X": "candidates of a search, or queries that share a key-value head",
    "Y": "layers",
    "1": "an axis of size one, for broadcasting",
}
