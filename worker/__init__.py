"""A worker that makes cancel and update trustworthy: commands in, evidence out."""
