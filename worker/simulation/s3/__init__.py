"""An S3 server as a model: one bucket, its clients, and everybody else who writes to it.

objects       what is stored, under which conditions it is written, and the history of that
client        the client library as the adapter uses it, its answers and its errors
bucket        a request on its way, and what goes wrong there
strangers     what others do to objects

Keys are plain text here, and not paths as on some servers (facts, S6): the adapter refuses what they would fold.
"""

from worker.simulation.s3.bucket import Bucket
from worker.simulation.s3.objects import Object, Write

__all__ = ["Bucket", "Object", "Write"]
