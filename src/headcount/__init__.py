"""headcount: how many attention heads does a summarizer need, and which?"""
