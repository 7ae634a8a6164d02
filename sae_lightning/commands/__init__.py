"""The commands of ``sae``: a file a command, each parses and calls."""
