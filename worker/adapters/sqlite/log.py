"""The command log on one file: one worker at a time, by lock; an epoch per partition fences an older assignment."""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from worker.adapters.sqlite import records
from worker.adapters.sqlite.database import Database
from worker.errors import AssignmentLost, Misconfigured, OutcomeUnknown, PositionLost
from worker.ports import Assignment, Outgoing, PartitionOwner, Position, Record, Topic

POLL_SECONDS_MIN, POLL_SECONDS_MAX = 0.002, 0.025
LOCKS = Path("/proc/locks")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class SqliteLog:
    """All partitions are ours, as long as we hold the lock."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock: IO[str] | None = None
        self._epochs: dict[int, int] = {}
        self._next: dict[int, int] = {}
        self._paused: set[int] = set()
        self._turn = 0
        self._nothing_since: int | None = None

    async def start(self, owner: PartitionOwner) -> None:
        self._database.open()
        self._take_lock()
        for partition in range(self._database.partitions):
            await owner.assigned(await self._assign(partition))

    async def fetch(self, max_records: int, timeout_seconds: float) -> Sequence[Record]:
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + timeout_seconds, POLL_SECONDS_MIN
        while True:
            changes = self._database.changes()
            if changes != self._nothing_since:
                if found := self._available(max_records):
                    return found
                self._nothing_since = changes
            left = until - loop.time()
            if left <= 0:
                return []
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 1.5, POLL_SECONDS_MAX)

    def _available(self, max_records: int) -> list[Record]:
        """What is there, beginning with another partition each time so that none starves."""
        partitions = [p for p in sorted(self._next) if p not in self._paused]
        found: list[Record] = []
        for i in range(len(partitions)):
            partition = partitions[(self._turn + i) % len(partitions)]
            left = max_records - len(found)
            new = records.read(self._database, Topic.COMMANDS, partition, self._next[partition], left) if left else []
            if new:
                self._next[partition] = new[-1].offset + 1
            found += new
        self._turn += 1
        return found

    def seek(self, assignment: Assignment, offset: int) -> None:
        if self._epochs.get(assignment.partition) != assignment.epoch:
            return
        if not assignment.log_start <= offset <= assignment.log_end:
            where = f"{assignment.log_start} to {assignment.log_end}"
            raise PositionLost(f"partition {assignment.partition}: position {offset} is outside of the log, {where}")
        self._next[assignment.partition] = offset
        self._paused.discard(assignment.partition)
        self._nothing_since = None

    def pause(self, assignment: Assignment) -> None:
        if self._epochs.get(assignment.partition) == assignment.epoch:
            self._paused.add(assignment.partition)

    def resume(self, assignment: Assignment) -> None:
        if self._epochs.get(assignment.partition) == assignment.epoch:
            self._paused.discard(assignment.partition)
            self._nothing_since = None

    async def commit(self, assignment: Assignment, outgoing: Sequence[Outgoing], position: Position) -> None:
        partitions = self._database.partitions
        if self._lock is None:
            raise AssignmentLost(f"partition {assignment.partition}: the log is stopped")

        def run(connection: sqlite3.Connection) -> None:
            sql = 'UPDATE positions SET "offset" = ?, metadata = ? WHERE partition = ? AND epoch = ?'
            ours = (position.offset, position.metadata, assignment.partition, assignment.epoch)
            if connection.execute(sql, ours).rowcount != 1:
                raise AssignmentLost(f"partition {assignment.partition}: epoch {assignment.epoch} is over")
            records.append(connection, outgoing, partitions)

        try:
            await self._database.write(run)
        except OutcomeUnknown as error:
            raise AssignmentLost(f"partition {assignment.partition}: {error}") from error

    async def renew(self, assignment: Assignment) -> Assignment:
        if self._lock is None:
            raise AssignmentLost("the log is stopped")
        return await self._assign(assignment.partition)

    async def _assign(self, partition: int) -> Assignment:
        def run(connection: sqlite3.Connection) -> tuple[int, int | None, str]:
            connection.execute("INSERT OR IGNORE INTO positions (partition, epoch) VALUES (?, 0)", (partition,))
            connection.execute("UPDATE positions SET epoch = epoch + 1 WHERE partition = ?", (partition,))
            sql = 'SELECT epoch, "offset", metadata FROM positions WHERE partition = ?'
            found: tuple[int, int | None, str] = connection.execute(sql, (partition,)).fetchone()
            return found

        self._next.pop(partition, None)
        epoch, offset, metadata = await self._database.write(run)
        self._epochs[partition] = epoch
        start, end = records.bounds(self._database, Topic.COMMANDS)[partition]
        position = None if offset is None else Position(offset, metadata)
        return Assignment(partition, epoch, position, start, end, self._database.partitions)

    async def stop(self) -> None:
        self._next.clear()
        self._epochs.clear()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @staticmethod
    def holder(path: Path) -> int | None:
        """Pid of the worker that has this database; takes no lock, so that it keeps no worker from starting."""
        lock = path.with_suffix(".lock")
        try:
            pid, inode = lock.read_text().partition(" ")[0], lock.stat().st_ino
            held = [line.split() for line in LOCKS.read_text().splitlines()]
        except OSError:
            return None
        ours = any(words[1] == "FLOCK" and words[4] == pid and words[5].endswith(f":{inode}") for words in held)
        return int(pid) if ours else None

    def _take_lock(self) -> None:
        """One worker per file; the lock goes with the process, the text says whose it is."""
        path = self._database.path.with_suffix(".lock")
        try:
            lock = path.open("a+")
        except OSError as error:
            raise Misconfigured(f"WORKER_DATA_DIR: {path} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            holder = lock.read().split() or ["unknown"]
            lock.close()
            raise Misconfigured(f"another worker has {self._database.path}: pid {holder[0]}") from error
        lock.truncate(0)
        lock.write(f"{os.getpid()} {BOOT_ID.read_text().strip() if BOOT_ID.exists() else 'unknown'}\n")
        lock.flush()
        self._lock = lock
