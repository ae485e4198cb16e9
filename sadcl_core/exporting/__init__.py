"""A trained model as a file for other programs: preprocessing and probabilities inside, proved equal on the user's own images."""
