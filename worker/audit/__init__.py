"""Replay for audit: what the audit log says, held against itself, against the code, and against what is there now."""
