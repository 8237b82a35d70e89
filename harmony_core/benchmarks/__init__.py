"""What `harmony bench` runs: speed of ops, model and sampling, and the quality of a checkpoint."""
