"""What every command passes before its operation's own rules, in the order of contract section 2.

Shape (before the domain), known id, permission, existence and ownership, reused id, too old to tell, expired,
version conflict.
"""

from datetime import datetime, timedelta

from schemas.audit import Context
from schemas.commands import CancelOptions, Command
from schemas.documents import OpenCommand
from schemas.events import Forgotten, Settled
from worker.domain.decision import AnyState, Draft, Known, Refused, S, Waiting, refuse


def recall(state: AnyState | None, command: Command) -> Known | Waiting | None:
    """Whether this very record has failed, or this very command (id and fingerprint) was answered or is under way."""
    if state is None:
        return None
    for failure in state.failures:
        if failure.id == command.id and failure.at == command.at:
            return Known(failure)  # this record's own, whatever became of the command in another record since
    for answered in reversed(state.answered):
        if answered.id == command.id and answered.fingerprint == command.fingerprint:
            return Known(answered)
    for opened in state.open:
        if opened.id == command.id and opened.fingerprint == command.fingerprint:
            return Waiting(command.id)
    return None


def permitted(command: Command, permission: str, now: datetime) -> Refused | None:
    """403 without the permission."""
    if permission in command.caller.permissions:
        return None
    return refuse(command, "permission_denied", now, message=f"the actor lacks the permission {permission}")


def admit(state: AnyState, command: Command, context: Context, *, version: int | None) -> Refused | None:
    """Reused id, too old to tell, expired, version conflict; `version` None leaves the last to the operation."""
    now = context.now
    used = any(entry.id == command.id for entry in state.answered) or any(o.id == command.id for o in state.open)
    if used:
        return refuse(command, "command_id_reused", now)
    if any(entry.id == command.id and entry.fingerprint == command.fingerprint for entry in state.unconfirmed):
        return None  # its intent is recorded: it resumes, whatever was asked of the first one (contract, section 2)
    if state.horizon is not None and command.time <= state.horizon:
        return refuse(command, "too_old_to_tell", now)
    if command.expires_at is not None and command.expires_at <= now:
        return refuse(command, "expired", now, fences=True)
    if version is not None and command.expected_version not in (None, version):
        message = f"the version is {version}, not {command.expected_version}"
        return refuse(command, "version_conflict", now, message=message)
    return None


def deadline(command: Command, default_seconds: int, context: Context) -> datetime:
    """Absolute: from the record's timestamp, bounded by the settings, at least 10 s from the first decision.

    A record from the future only says that our clock is behind: it must not keep anybody waiting for longer.
    """
    options, limits = command.operation, context.settings
    asked = options.deadline_seconds if isinstance(options, CancelOptions) else None
    seconds = min(asked or default_seconds, limits.deadline_seconds_max)
    earliest = context.now + timedelta(seconds=limits.deadline_seconds_min)
    return max(min(command.received_at, context.now) + timedelta(seconds=seconds), earliest)


def opened(command: Command, status_before: str, default_seconds: int, context: Context) -> OpenCommand:
    """The entry that makes an intent durable."""
    return OpenCommand(
        id=command.id,
        type=command.type,
        fingerprint=command.fingerprint,
        time=command.time,
        at=command.at,
        received_at=command.received_at,
        decided_at=context.now,
        deadline_at=deadline(command, default_seconds, context),
        status_before=status_before,
        correlation_id=command.correlation_id,
        marker=getattr(command.operation, "marker", None),
    )


def settle(draft: Draft[S], context: Context, *, sweeps: bool = False) -> None:
    """Markers whose cause is gone go; a sweep that is not due yet stays, unless a later one takes its place."""
    done = tuple(
        marker.audit_seq
        for marker in draft.state.unsettled
        if sweeps or marker.why != "sweep" or marker.due_at <= context.now
    )
    if done:
        draft.emit(Settled(audit_seqs=done))


def forget(draft: Draft[S], context: Context) -> None:
    """Let entries leave the memory whose commits are known: the oldest answered beyond the bound, every failure.

    An entry of another partition's record stays: only that partition's owner can know (design, section 4).
    """
    state, settled = draft.state, context.settled
    surplus = len(state.answered) - context.settings.memory_commands
    leaving = [entry for entry in state.answered if entry.at in settled][: max(surplus, 0)]
    failures = tuple(failure.at for failure in state.failures if failure.at in settled)
    if not leaving and not failures:
        return
    horizon = max((entry.time for entry in leaving), default=None)
    if horizon is None or (state.horizon is not None and state.horizon > horizon):
        horizon = state.horizon
    draft.emit(Forgotten(answered=tuple(entry.id for entry in leaving), failures=failures, horizon=horizon))
