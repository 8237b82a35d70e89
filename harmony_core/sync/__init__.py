"""Sync of sound and picture: measured in any clip, and what the model itself attends to."""

MAX_LAG_S = 0.5  # lags are sought within this either way, unless asked otherwise
