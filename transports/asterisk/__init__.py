"""Calls that Asterisk bridges here, by WebSocket or by AudioSocket."""
