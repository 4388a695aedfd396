"""The sections of a config.

Each is in the file of its name: ``generation`` declares ``generation.num_beams``. The section
``model`` has two files: ``model_attention`` declares its first keys, which say how many heads each
attention block has; ``model`` declares the others.
"""
