"""What a run has found, as a page."""
