"""What the commands can be told: options and settings, files of them, data sets and networks by name."""
