"""Deliberate bugs: each must of the design has at least one patch here that breaks it, and tests that must notice."""
