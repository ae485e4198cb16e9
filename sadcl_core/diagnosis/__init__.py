"""Find what is wrong with a machine or with a run: evidence is gathered once, and a list of checks looks at it."""
