"""Ways to prompt."""
