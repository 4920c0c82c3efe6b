"""The HTTP API holds to its own OpenAPI document: no request that schemathesis makes up gets a 5xx,
and every answer is of a kind the document names.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

PATHS = (
    ("POST", "/api/v1/publish"),
    ("GET", "/api/v1/topics"),
    ("GET", "/api/v1/topics/{topic}"),
    ("GET", "/api/v1/topics/{topic}/history"),
    ("POST", "/api/v1/disconnect"),
)
EXAMPLES = 60


@pytest.mark.filterwarnings("default")
async def test_nothing_that_schemathesis_sends_breaks_the_api(api):
    url = api.running.url

    def attack() -> int:
        schema: Any = schemathesis.openapi.from_url(f"{url}/api/v1/openapi.json")
        sent = 0
        for method, path in PATHS:
            operation = schema[path][method]

            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
                derandomize=True,
                database=None,
            )
            @given(case=st.one_of(operation.as_strategy()))
            def send(case: Any) -> None:
                nonlocal sent
                response = case.call(base_url=url, timeout=20)
                case.validate_response(
                    response,
                    checks=[
                        not_a_server_error, status_code_conformance, response_schema_conformance
                    ],
                )  # fmt: skip
                sent += 1

            send()
        return sent

    assert await asyncio.to_thread(attack) >= len(PATHS) * EXAMPLES // 2
