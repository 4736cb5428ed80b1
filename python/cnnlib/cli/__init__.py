"""The command line: `main` reads the options, and each command is a module.

Its `add_to(commands)` adds the options, its `run(options)` returns the exit status.
"""
