"""How well sound and picture of any clip agree in time."""
