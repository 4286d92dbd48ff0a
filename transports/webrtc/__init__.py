"""Calls from a browser: signalling, and the page served at ``/``."""
