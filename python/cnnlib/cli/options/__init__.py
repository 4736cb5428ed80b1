"""The options and settings of the commands: their forms, defaults, and files of them."""
