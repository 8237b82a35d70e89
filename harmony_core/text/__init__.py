"""Captions and transcripts to what the transformer reads."""
