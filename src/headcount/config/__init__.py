"""The configuration.

``sections/`` declares every key, ``schema`` puts the sections together, ``load`` merges files and
overrides into a checked config.
"""
