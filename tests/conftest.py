"""The tiers (a folder each), the count per tier, and the check that no test leaves a task behind.

Knows nothing of the worker. Asyncio's debug mode is set in pyproject.toml.
"""

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import structlog

structlog.configure(
    processors=[structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)],
    cache_logger_on_first_use=False,  # each test's output is its own
)

TESTS = Path(__file__).parent
TIERS = ("unit", "contract", "simulation", "integration", "acceptance", "benchmarks", "model")


def tier_of(path: Path) -> str:
    """The tier is the first folder below tests/."""
    tier = path.relative_to(TESTS).parts[0]
    if tier not in TIERS:
        raise pytest.UsageError(f"{path}: a test lives in one of the tiers {', '.join(TIERS)}")
    return tier


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(tier_of(item.path))
        if pytest_asyncio.is_async_test(item) and isinstance(item, pytest.Function):
            # First set up is last torn down: the test's own fixtures may still stop their tasks.
            item.fixturenames.insert(0, "no_leaked_tasks")


@pytest_asyncio.fixture
async def no_leaked_tasks() -> AsyncIterator[None]:
    """Fails an async test at whose end a task that it started still runs."""
    before = asyncio.all_tasks()
    yield
    leaked = asyncio.all_tasks() - before - {asyncio.current_task()}
    for task in leaked:
        task.cancel()
    await asyncio.gather(*leaked, return_exceptions=True)
    if leaked:
        pytest.fail("tasks leaked: " + ", ".join(sorted(task.get_name() for task in leaked)))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With REQUIRE_SERVICES=1 a skipped test is a failure: a tier is missing."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("REQUIRE_SERVICES") == "1" and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line per tier, and the same for machines. Only tests that passed count."""
    passed = Counter(Path(report.nodeid).parts[1] for report in terminalreporter.stats.get("passed", []))
    for tier in TIERS:
        if passed[tier]:
            terminalreporter.write_line(f"tier {tier}: {passed[tier]} tests")
    terminalreporter.write_line("tiers-json: " + json.dumps({tier: passed[tier] for tier in TIERS if passed[tier]}))
