"""A file per command of ``sae``: each parses its options, checks them, and calls the room that does the work.

`sae_lightning.cli` holds the table of commands. A command that takes no ``--data`` imports what it runs after parsing,
so that its ``--help`` answers at once.
"""
