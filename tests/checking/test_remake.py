"""The re-make of a published SAE: what is taken from it, what is filled in, and its l0."""
