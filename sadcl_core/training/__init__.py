"""Training: stages, steps, prototypes."""
