"""What the AsyncAPI document says in words: how to publish a command, what each topic promises, who may do what.

Text only; the rules are the worker's.
"""

from typing import NamedTuple


class CommandProse(NamedTuple):
    """What a command's own fields do not say."""

    permission: str
    """What the actor's `permissions` must hold."""
    key: str
    """The record key."""
    whose: str
    """What makes the aggregate the actor's."""

    @property
    def about(self) -> str:
        return f"Needs the permission `{self.permission}`{self.whose}."


_TEAM = " and a team of the actor's that owns it"
_TENANT = " and the actor's tenant"
COMMANDS = {
    "evaluation.cancel": CommandProse("agent:write", "evaluation/{evaluation_id}", _TEAM),
    "custom_harness.cancel": CommandProse("agent:write", "custom-harness/{harness_id}", _TEAM),
    "workflow.update": CommandProse(
        "workflow:report", "evaluation/{evaluation_id}` or `custom-harness/{harness_id}", _TEAM
    ),
    "session.cancel": CommandProse("session:write", "session/{session_id}", _TENANT),
    "session.update": CommandProse("workflow:report", "session/{session_id}", _TENANT),
    "turn.update": CommandProse("workflow:report", "session/{session_id}", _TENANT),
    "harness.update": CommandProse("harness:manage", "org/{org_id}", " and the actor's org"),
    "workflow.resume": CommandProse(
        "workflow:resume", "evaluation/{evaluation_id}` or `custom-harness/{harness_id}", " (the reconciler)"
    ),
    "session.resume": CommandProse("workflow:resume", "session/{session_id}", " (the reconciler)"),
}

INTRODUCTION = """\
Commands in, evidence out: each command record leads to exactly one verdict, and a cancel is confirmed only once the \
work was seen stopped.

## How to publish a command, from any language

1. Value: the command's data as UTF-8 JSON (the payload schemas below), at most 8 MiB. Unknown keys are ignored.
2. Key: `{aggregate type}/{id}` as UTF-8, such as `evaluation/3f0c9a7e-5b1d-4c86-9f27-8a4d1e6b2c35`. Commands of one \
key are decided in the order of their records. Keys are hashed by murmur2, the default of Kafka's Java client; clients \
on librdkafka set `partitioner=murmur2_random`. Another partition is still correct, only unordered.
3. Headers: CloudEvents 1.0 in binary mode, see below. Publish with `acks=all`.
4. Read the verdict from the results topic with `isolation.level=read_committed`, where `command.id` is your `ce_id`.

## CloudEvents mapping

| attribute | binary mode (preferred) | structured mode |
|---|---|---|
| specversion, id, type, source, time (all required) | headers `ce_specversion ce_id ce_type ce_source ce_time` | keys \
of the JSON object |
| subject, dataschema (optional) | headers `ce_subject ce_dataschema` | keys of the JSON object |
| datacontenttype | header `content-type`: `application/json` | key `datacontenttype` |
| data | the record's value | key `data`, a JSON object |
| partitionkey | the record's key | the record's key |

In structured mode the header `content-type` is `application/cloudevents+json`, and the value is the whole event. The \
worker sends binary mode only. A header's value is UTF-8 text, not percent-encoded. Trace context (W3C) travels in the \
header `traceparent`.

A payload over 64 KiB (verdict, dead letter) stands in the store: the extension attribute `dataref` (header \
`ce_dataref`) holds its key, `blobs/{sha256}`, and the record's value is `{"sha256": ..., "bytes": ...}`.

## Publishing again

The same `ce_id` with the same type, aggregate, subject and data gets the first verdict byte for byte (after a 2xx; a \
refused or failed one is decided again), and does nothing. `correlation_id`, `expires_at` and the actor's token \
details may differ; keep the first `ce_time`. The same id with other data is refused, 422 `command_id_reused`.

Each code that a verdict may carry, with its outcome and HTTP status, stands in `codes.json`. The same schemas as \
JSON Schema 2020-12, one per message and document, stand beside this file; a command's `$id` is its `ce_dataschema`.
"""

CHANNELS = {
    "commands": "Intents of the API tier and reports of executors. What has no readable envelope or common fields"
    " becomes a dead letter, and where an id can be read gets a `rejected` verdict, too.",
    "results": "Verdicts: one record per command record for readers of committed data. As many partitions as commands,"
    " same partitioner, so a verdict is in the partition of its aggregate.",
    "status": "Each change of status, `cancelling` too as soon as it is durable, per aggregate in version order. A"
    " reader may see one again, the same bytes; `ce_id` identifies it.",
    "audit": "What was decided, as a hash chain per aggregate. Records may be seen again, the same bytes.",
    "checkpoints": "Signed Merkle roots of the audit topic, a line of them per audit partition. One may be seen again,"
    " or stand beside another on the same records: an owner that was replaced may still have made it.",
    "dead-letters": "Records that cannot be decided on, byte for byte, with where they stood and why.",
}
