"""The subcommands of ``cnnlib``, a module each; ``cnnlib.__main__`` reads the options and calls `run`."""
