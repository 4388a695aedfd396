"""Lightning: the module, the run folder, the loggers, and the commands that join them."""
