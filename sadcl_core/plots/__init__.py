"""Figures: each module draws one from finished numbers and computes nothing.

A new figure is a new file here, a subcommand in `sadcl_cli.visualize` and a test file.
"""
