"""Checks of published SAEs: what ``sae check`` finds, the file that keeps it, and the table of many."""
