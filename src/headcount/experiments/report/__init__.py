"""The report of a study: ``study`` reads its runs, ``statistics`` compares them, ``tables``,
``plot`` and ``findings`` present the results, ``write`` is the command."""
