"""The subcommands of ``cnnlib``, a module each; ``cnnlib.__main__`` reads the command line and calls `run`."""
