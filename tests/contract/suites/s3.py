"""An S3 server as a world of the store's contract: the moto double, or a real one.

Knows the adapter's settings; not who runs the server, nor how a bucket is made.
"""

from worker.adapters.s3 import S3Store
from worker.adapters.system import SystemClock, SystemIds
from worker.ports import DocumentStore
from worker.settings import S3Settings


class S3World:
    """One bucket, which exists."""

    versions_repeat = True
    any_key = False

    def __init__(self, settings: S3Settings) -> None:
        self.settings = settings
        self.store: DocumentStore = self.another()
        given = settings.model_dump() | {"secret_key": settings.secret_key.get_secret_value()}
        self.source = (
            "from worker.adapters.s3 import S3Store; from worker.adapters.system import SystemClock, SystemIds; "
            "from worker.settings import S3Settings; "
            f"store = S3Store(S3Settings.model_validate({given!r}), SystemClock(), SystemIds())"
        )

    def another(self) -> DocumentStore:
        return S3Store(self.settings, SystemClock(), SystemIds())
