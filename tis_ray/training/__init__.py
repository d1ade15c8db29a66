"""Training: the loop with its learning-rate schedule, checkpoints, master weights, weights in parts."""
