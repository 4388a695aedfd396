"""The configuration.

``schema`` declares every key, ``load`` merges files and overrides into a checked config.
"""
