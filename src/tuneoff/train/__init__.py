"""Training: a model and tokens → a trained model, by the one loop that all arms share."""
