"""Training: tokens, each client's data order, local steps, evaluation."""
