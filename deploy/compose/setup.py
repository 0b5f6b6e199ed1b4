"""The one-shot service `setup` of compose.yaml: waits for Kafka and S3, makes the bucket and the topics.

Runs in the worker's image, and reads its settings.  Safe to run again.  Knows of the worker its command line only.
"""

import subprocess
import sys
import time

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from worker.settings import S3Settings, load

PATIENCE_SECONDS = 60


def main() -> int:
    """-> exit code of `worker topics create`, once both servers answer; 1 where they do not in time."""
    given = load()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not bucket_is_there(given.s3):
        if time.monotonic() > deadline:
            return 1
        time.sleep(0.5)
    while code := subprocess.run(["worker", "topics", "create"], check=False).returncode:  # noqa: S607  # of the image
        if time.monotonic() > deadline:
            return code
        time.sleep(0.5)
    return 0


def bucket_is_there(settings: S3Settings) -> bool:
    """Makes it where it is not; False while the server does not answer."""
    client = botocore.session.get_session().create_client(
        "s3",
        region_name=settings.region,
        endpoint_url=settings.endpoint_url,
        aws_access_key_id=settings.access_key,
        aws_secret_access_key=settings.secret_key.get_secret_value(),
        config=Config(s3={"addressing_style": "path"}, connect_timeout=2, read_timeout=5),
    )
    try:
        client.create_bucket(Bucket=settings.bucket)
    except ClientError as error:
        return bool(error.response["Error"]["Code"] == "BucketAlreadyOwnedByYou")
    except BotoCoreError as error:
        sys.stderr.write(f"{error}\n")
        return False
    finally:
        client.close()
    return True


sys.exit(main())
