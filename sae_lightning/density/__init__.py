"""``sae density``: how dense is a representation, and what do six claims about it come to?"""
