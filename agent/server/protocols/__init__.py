"""The streaming protocols, a sans-IO codec each."""
