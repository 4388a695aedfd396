"""The report of a study.

``study`` reads its runs, ``statistics`` compares them, the others present the result.
"""
