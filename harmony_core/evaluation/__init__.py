"""Measurements of finished clips."""
