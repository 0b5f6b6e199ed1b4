"""From the models to what strangers read: JSON Schema, AsyncAPI, OpenAPI, the table of codes.

`python -m schemas.export` writes `schemas/published/`; `--check` compares.  Nothing at run time imports this.
"""
