"""Listeners to the events of a training run."""
