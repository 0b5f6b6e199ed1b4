"""One worker whose documents are on S3 and whose log is a file: the store's faults, and nobody else's."""

from pathlib import Path

from schemas.audit import DecisionSettings
from tests.contract.stack import Jobs, Stack
from worker.adapters.s3 import S3Store
from worker.runtime.engine import Engine, EngineSettings
from worker.settings import S3Settings


class S3Stack(Stack):
    """As the contract tier's stack, but for the store."""

    def __init__(self, folder: Path, s3: S3Settings, jobs: Jobs | None = None) -> None:
        self._s3 = s3
        super().__init__(folder, jobs)

    def open(self) -> None:
        super().open()
        self.ports.store = S3Store(self._s3, self.clock, self.ports.ids)
        self.store = self.ports.store  # type: ignore[assignment]  # tests read through it as through SQLite's
        chosen = EngineSettings(decisions=DecisionSettings(), build="test", reconcile_interval_seconds=60)
        self.engine = Engine(self.ports, chosen)
