"""An org's directory from whole harnesses, each of which keeps to the rules of an update (contract, section 6).

Pure.  Errors are ValueErrors that name the place.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from schemas.codes import CODES
from schemas.documents import OrgState
from schemas.harness import Harness, HarnessEntry
from schemas.status import HarnessStatus
from worker.cli.given import unknown_field
from worker.client.messages import invalid, path
from worker.domain.harness import HARNESS_ID, Changes, apply_changes, parse_changes, refuse_change

FIELDS = ("org_id", "default", "models", "capabilities", "harnesses")


def org_of(given: Mapping[str, Any], now: datetime) -> tuple[OrgState, dict[str, bytes]]:
    """-> the directory, and the bodies by key.  Raises ValueError."""
    if unknown := unknown_field(given, FIELDS):
        raise ValueError(unknown)
    listed = given.get("harnesses", [])
    if not isinstance(listed, list):
        raise ValueError("harnesses: must be a list of whole harnesses")
    bodies: dict[str, bytes] = {}
    entries: dict[str, HarnessEntry] = {}
    changes: dict[str, Changes] = {}
    for number, fields in enumerate(listed):
        harness, asked = _harness(f"harnesses.{number}", fields, now)
        if harness.id in entries:
            raise ValueError(f"harnesses.{number}.id: {harness.id} is listed twice")
        body = harness.model_dump_json().encode()
        sha256 = hashlib.sha256(body).hexdigest()
        bodies[f"blobs/{sha256}"], changes[harness.id] = body, asked
        entries[harness.id] = HarnessEntry(
            name=harness.name,
            parent=harness.parent_harness_id,
            status=harness.status,
            built_in=harness.is_built_in,
            body=sha256,
        )
    org = OrgState.model_validate({**given, "harnesses": entries})
    for number, (harness_id, asked) in enumerate(changes.items()):
        if code := _refused(org, harness_id, asked):
            raise ValueError(f"harnesses.{number}: {code}: {CODES[code].meaning}")
    if org.default is not None and _status(org, org.default) != HarnessStatus.ACTIVE:
        raise ValueError("default: must be the id of an active harness of the org")
    return org, bodies


def _harness(at: str, fields: Any, now: datetime) -> tuple[Harness, Changes]:
    """The harness as it is stored, and its fields as the changes of an update."""
    if not isinstance(fields, dict):
        raise ValueError(f"{at}: must be a whole harness, a JSON object")
    if unknown := unknown_field(fields, Harness.model_fields):
        raise ValueError(f"{at}.{unknown}")
    changes = parse_changes({name: value for name, value in fields.items() if name != "status"})
    if not isinstance(changes, Changes):
        raise ValueError(f"{at}.{path(changes[0])}: {changes[0].msg.removeprefix('Value error, ')}")
    whole = {name: value for name, value in fields.items() if value is not None}
    try:
        harness = Harness.model_validate({"created_at": now, "updated_at": now, **whole})
    except ValidationError as error:
        raise ValueError(f"{at}.{invalid(error)}") from None
    if not HARNESS_ID.fullmatch(harness.id):
        raise ValueError(f"{at}.id: must be `harness_` and 32 lowercase hex digits")
    return apply_changes(harness, changes, harness.updated_at), changes


def _refused(org: OrgState, harness_id: str, changes: Changes) -> str | None:
    """The code with which an update to what is there would be refused; what is archived only has to own its name."""
    entry = org.harnesses[harness_id]
    if entry.status == HarnessStatus.DELETED:
        return None
    if entry.status == HarnessStatus.ARCHIVED:
        changes = Changes(name=changes.name)
    changeable = entry.model_copy(update={"built_in": False, "status": HarnessStatus.ACTIVE})
    others = org.model_copy(update={"harnesses": {**org.harnesses, harness_id: changeable}})
    return refuse_change(others, harness_id, changes, None)


def _status(org: OrgState, harness_id: str) -> HarnessStatus | None:
    entry = org.harnesses.get(harness_id)
    return entry.status if entry else None
