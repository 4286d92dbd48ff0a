"""The telephone: SIP calls answered and made by this machine, without a provider in between."""
