"""The commands: one file for each, with the name of the command."""
