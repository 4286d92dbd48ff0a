"""Recordings over HTTP: uploads, forms and answers."""
