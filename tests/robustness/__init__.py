"""Hostile input, made from seeds and read in watched processes: thousands by `make fuzz`, some by `make test`."""
