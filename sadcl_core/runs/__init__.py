"""A run on disk: its directory, its model files, its state to resume from."""
