"""Model reduction of deep state-space models."""
