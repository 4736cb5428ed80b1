"""The command line: `main` reads the options, and each command is a module with a function `run`."""
