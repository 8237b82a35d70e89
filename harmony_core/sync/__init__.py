"""Sync of sound and picture: measured in any clip, and what the model itself attends to."""
