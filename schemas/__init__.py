"""The published language: what crosses a topic, the store, or an HTTP body.  pydantic and the standard library only."""
