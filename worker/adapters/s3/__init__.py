"""The document store on S3, or on any server that speaks it and honours conditions: one bucket, one client."""

from worker.adapters.s3.store import S3Store

__all__ = ["S3Store"]
