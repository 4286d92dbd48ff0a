"""Speech-to-text over the wire: one sans-IO codec for each protocol, one thin shell for all."""
