"""The rules of a harness: what a change may hold, how it is applied, how parents are merged (contract, section 6)."""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictStr, StringConstraints, ValidationError

from schemas.documents import OrgState
from schemas.harness import Capability, Harness, HarnessEntry, InitialFile, NetworkAccess
from schemas.status import HarnessStatus
from schemas.verdicts import FieldError
from schemas.wording import rule
from worker.domain.network_access import OPEN, Access, layer, merge

HARNESS_ID = re.compile(r"harness_[0-9a-f]{32}")
FILE_SYSTEM = "session_file_system"
FILES_BYTES_MAX = 5 * 1024 * 1024


def _bytes_max(limit: int) -> AfterValidator:
    def check(value: str) -> str:
        if len(value.encode("utf-8", "surrogatepass")) > limit:
            raise ValueError(f"must be at most {limit} bytes")
        return value

    return AfterValidator(check)


def _name(value: str) -> str:
    if value == "default":
        raise ValueError("must not be `default`, which stands for the org's default harness")
    return value


def _parent_id(value: str) -> str:
    if not HARNESS_ID.fullmatch(value):
        raise ValueError("must be `harness_` and 32 lowercase hex digits")
    return value


def _no_ref_twice(value: tuple[Capability, ...]) -> tuple[Capability, ...]:
    refs = [capability.ref for capability in value]
    if len(set(refs)) != len(refs):
        raise ValueError("must not list a ref twice")
    return value


def _files(value: tuple[InitialFile, ...]) -> tuple[InitialFile, ...]:
    paths, total = [normal_path(file.path) for file in value], 0
    if len(set(paths)) != len(paths):
        raise ValueError("must not list a path twice")
    for file in value:
        total += len(_content(file))
    if total > FILES_BYTES_MAX:
        raise ValueError(f"must be at most {FILES_BYTES_MAX} bytes when decoded")
    return value


def _content(file: InitialFile) -> bytes:
    if file.encoding == "text":
        return file.content.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(file.content, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{file.path}: content is not base64") from error


def normal_path(path: str) -> str:
    """`/workspace` dropped, relative from the root.  Raises ValueError for `/`, empty, NUL, `..` and `//`."""
    if path == "/workspace" or path.startswith("/workspace/"):
        path = path.removeprefix("/workspace")
    path = path if path.startswith("/") else f"/{path}"
    if path == "/" or "\0" in path or "//" in path or ".." in path.split("/"):
        raise ValueError("path must name a file: not `/`, empty, with NUL, `..` or `//`")
    return path


class Changes(BaseModel):
    """The provided fields of a PATCH; null has been taken for omitted, but for the parent."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    name: Annotated[
        str,
        StringConstraints(strict=True, max_length=64, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$"),
        AfterValidator(_name),
    ] = ""
    display_name: Annotated[str, StringConstraints(strict=True, max_length=255)] = ""
    description: Annotated[StrictStr, _bytes_max(10_240)] = ""
    system_prompt: Annotated[StrictStr, _bytes_max(1024 * 1024)] = ""
    parent_harness_id: Annotated[StrictStr, AfterValidator(_parent_id)] | None = None
    default_model_id: StrictStr = ""
    tags: tuple[StrictStr, ...] = ()
    capabilities: Annotated[tuple[Capability, ...], Field(max_length=250), AfterValidator(_no_ref_twice)] = ()
    initial_files: Annotated[tuple[InitialFile, ...], Field(max_length=100), AfterValidator(_files)] = ()
    network_access: NetworkAccess = NetworkAccess()
    status: Literal["active", "archived", "deleted"] = "active"


def parse_changes(raw: Any) -> Changes | tuple[FieldError, ...]:
    """The provided fields, or which of them breaks which rule."""
    if not isinstance(raw, dict):
        return (FieldError(loc=("changes",), msg="must be an object", type="dict_type"),)
    given = {name: value for name, value in raw.items() if value is not None or name == "parent_harness_id"}
    try:
        return Changes.model_validate(given)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        return tuple(FieldError(loc=tuple(e["loc"]), msg=rule(e)[:500], type=e["type"]) for e in found[:20])


def apply_changes(harness: Harness, changes: Changes, now: datetime) -> Harness:
    """Only provided fields change; `updated_at` always moves; files bring the capability that they need."""
    fields: dict[str, Any] = {name: getattr(changes, name) for name in sorted(changes.model_fields_set)}
    fields["updated_at"] = now
    if fields.pop("status", None) == "archived":
        fields |= {"status": HarnessStatus.ARCHIVED, "archived_at": now}
    after = harness.model_copy(update=fields)
    if after.initial_files and all(capability.ref != FILE_SYSTEM for capability in after.capabilities):
        first = Capability(ref=FILE_SYSTEM)
        after = after.model_copy(update={"capabilities": (first, *after.capabilities)})
    return after


def refuse_change(org: OrgState, harness_id: str, changes: Changes, expected_version: int | None) -> str | None:
    """The code of the first check that fails, in the contract's order, from "built-in" on; None: accepted."""
    entry, fields = org.harnesses[harness_id], changes.model_fields_set
    if entry.built_in:
        return "built_in"
    if entry.status != HarnessStatus.ACTIVE:
        return "not_active"
    if "name" in fields and _name_taken(org, harness_id, changes.name):
        return "name_taken"
    refs = {capability.ref for capability in changes.capabilities}
    if not refs <= {*org.capabilities, FILE_SYSTEM}:
        return "capability_unknown"
    if "default_model_id" in fields and changes.default_model_id not in org.models:
        return "model_unknown"
    parent = changes.parent_harness_id
    if parent is not None and (code := _refuse_parent(org.harnesses, harness_id, parent)):
        return code
    if expected_version not in (None, entry.version):
        return "version_conflict"
    return _refuse_archiving(org, harness_id) if changes.status == "archived" else None


def _name_taken(org: OrgState, harness_id: str, name: str) -> bool:
    return any(
        entry.name == name and other != harness_id and entry.status != HarnessStatus.DELETED
        for other, entry in org.harnesses.items()
    )


def _refuse_parent(harnesses: Mapping[str, HarnessEntry], harness_id: str, parent: str) -> str | None:
    entry = harnesses.get(parent)
    if entry is None or entry.status == HarnessStatus.DELETED:
        return "parent_not_found"
    if parent == harness_id or entry.status != HarnessStatus.ACTIVE:
        return "invalid_parent"
    above: str | None = parent
    passed: set[str] = set()
    while above is not None and above not in passed:
        if above == harness_id:
            return "invalid_parent"
        passed.add(above)
        above = harnesses[above].parent if above in harnesses else None
    return None


def _refuse_archiving(org: OrgState, harness_id: str) -> str | None:
    inherited = any(
        entry.parent == harness_id and entry.status != HarnessStatus.DELETED for entry in org.harnesses.values()
    )
    if inherited:
        return "still_inherited"
    return "is_default" if org.default == harness_id else None


def resolve(org: OrgState, asked: str) -> str | None:
    """The id behind an id, an addressable name, or `default`; None: 404 (a malformed id is a name like any other)."""
    if asked == "default":
        asked = org.default or ""
    found = asked if asked in org.harnesses else None
    if found is None:
        named = (i for i, e in org.harnesses.items() if e.name == asked and e.status != HarnessStatus.DELETED)
        found = next(named, None)
    return found if found and org.harnesses[found].status != HarnessStatus.DELETED else None


class Effective(BaseModel):
    """A harness merged with its parents."""

    model_config = ConfigDict(frozen=True)

    id: str
    system_prompt: str
    default_model_id: str | None
    capabilities: tuple[Capability, ...]
    initial_files: tuple[InitialFile, ...]
    network_access: Access


def effective(chain: Sequence[Harness]) -> Effective:
    """Root to leaf: prompts joined, the child's model, capabilities and files replacing, network access intersected."""
    capabilities: dict[str, Capability] = {}
    files: dict[str, InitialFile] = {}
    access = OPEN
    model: str | None = None
    for harness in chain:
        capabilities |= {capability.ref: capability for capability in harness.capabilities}
        files |= {normal_path(file.path): file for file in harness.initial_files}
        access = merge(access, layer(harness.network_access))
        model = harness.default_model_id or model
    return Effective(
        id=chain[-1].id,
        system_prompt="\n\n".join(harness.system_prompt for harness in chain if harness.system_prompt),
        default_model_id=model,
        capabilities=tuple(capabilities.values()),
        initial_files=tuple(files.values()),
        network_access=access,
    )
