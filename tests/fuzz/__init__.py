"""Hostile inputs by the thousand: what is tried, and what comes of it. ``make fuzz`` runs all of it for minutes."""
