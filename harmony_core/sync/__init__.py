"""How well sound and picture of any clip agree in time."""

MAX_LAG_S = 0.5  # lags are sought within this either way, unless asked otherwise
