"""Using a trained model: scores, evaluation, prediction, embeddings."""
