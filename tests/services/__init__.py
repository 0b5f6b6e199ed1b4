"""Real servers for tests: a Docker engine, an image per server, and the containers of a test run.

`kafka/`, `s3/` and `kubernetes/` are the recipes.  `engine` and `images` are what `make services` runs; `container`,
`broker`, `object_store` and `cluster` are what fixtures and the crash tests start.  Knows nothing of the worker.
"""
