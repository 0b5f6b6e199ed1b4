"""MinIO, a second opinion on what S3 is: it encrypts, which the server of CI cannot.  `python -m tests.services.minio`

Built once per machine, in the cache of the images (some six minutes; AGPL, so it is for tests only and never shipped),
and run as a process.  Needs Go.  Exit codes: 0 it is there, 1 not.
"""

# ruff: noqa: T201  # the command line prints

import base64
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.services import images
from tests.services.container import HOST, free_port

VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
START_SECONDS = 30


def binary() -> Path:
    """Where it is, once it was built."""
    return images.cache() / "minio" / VERSION / "minio"


def ensure() -> str:
    """Builds it where it is not there -> what was done, in a line.  Raises BuildFailed.

    Safe to run twice at once: the second waits for the first.
    """
    with images.locked("minio"):
        if binary().is_file():
            return f"minio: {binary()}"
        if not shutil.which("go"):
            raise images.BuildFailed("minio: install Go 1.24 or later (go.dev)")
        began = time.monotonic()
        folder, log = binary().parent, binary().parent / "build.log"
        folder.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {"CGO_ENABLED": "0", "GOBIN": str(folder), "GOFLAGS": "-trimpath -buildvcs=false"}
        command = ["nice", "-n", "15", "go", "install", "-ldflags", "-s -w", f"github.com/minio/minio@{VERSION}"]
        with log.open("w") as output:
            ran = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, check=False
            )
        if ran.returncode:
            raise images.BuildFailed(f"minio: {' '.join(command)} failed; {log} ends with:\n{log.read_text()[-3000:]}")
        return f"minio: {binary()}, built in {time.monotonic() - began:.0f} s"


class Minio:
    """`with Minio(folder) as server`: runs until the end of the block, its objects and its log in the folder.

    One key encrypts for it, in place of a key service.  With a `domain`, a bucket's host name below it will do.
    """

    access_key = "testaccess"
    secret_key = "testsecret123"  # noqa: S105  # of a server that lives as long as a test run
    region = "us-east-1"
    key_id = "documents"

    def __init__(self, folder: Path, domain: str = "") -> None:
        self._folder, self._domain = folder, domain
        self._address = f"{HOST}:{free_port()}"
        self.endpoint_url = f"http://{self._address}"

    def __enter__(self) -> Self:
        key = base64.b64encode(os.urandom(32)).decode()
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MINIO_", "AWS_"))}
        environment |= {
            "MINIO_ROOT_USER": self.access_key,
            "MINIO_ROOT_PASSWORD": self.secret_key,
            "MINIO_KMS_SECRET_KEY": f"{self.key_id}:{key}",
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            "HOME": str(self._folder),
        }
        environment |= {"MINIO_DOMAIN": self._domain} if self._domain else {}
        command = [str(binary()), "server", "--quiet", "--address", self._address, str(self._folder / "objects")]
        self._log = (self._folder / "log").open("wb")
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, env=environment
        )
        try:
            self._wait()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"MinIO is not ready:\n{(self._folder / 'log').read_text()[-2000:]}")
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.endpoint_url}/minio/health/ready", timeout=2) as answer:  # noqa: S310  # ours
                return bool(answer.status == 200)
        except OSError:
            return False


def main() -> int:
    """Prints what was done; -> exit code."""
    try:
        print(ensure())
    except images.BuildFailed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
