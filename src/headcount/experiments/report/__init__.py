"""The report of a study. Read it in this order: ``results`` reads a run, ``study`` all of them;
``statistics`` compares settings, ``sequential`` decides when more seeds are added; ``tables``,
``plot`` and ``findings`` present the results, ``write`` is the command."""
