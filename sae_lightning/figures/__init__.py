"""``sae figures``: what the sanity check found, drawn from the folders of finished runs."""
