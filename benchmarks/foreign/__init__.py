"""Tiny SAEs written by the libraries that define their formats, with what these compute."""
