"""The embedded stack: log, stream and store in one SQLite file; durable, survives kill -9."""

from worker.adapters.sqlite.database import Database
from worker.adapters.sqlite.log import SqliteLog
from worker.adapters.sqlite.store import SqliteStore
from worker.adapters.sqlite.stream import SqliteStream

__all__ = ["Database", "SqliteLog", "SqliteStore", "SqliteStream"]
