"""One suite per port, for every implementation: the doubles in the contract tier, the real servers in integration."""

import pytest

for port in ("jobs", "log", "store", "stream"):
    pytest.register_assert_rewrite(f"tests.contract.suites.{port}")
