"""Measurements: each module makes its data, runs things in turn and returns rows."""
