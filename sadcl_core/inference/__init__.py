"""Use a trained model: load it, predict, embed, score a split, look at attention."""
