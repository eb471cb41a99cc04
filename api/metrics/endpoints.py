"""GET /metrics for Prometheus. Always with the bearer token of secrets/metrics.token, from everywhere: behind a proxy
every caller looks local, and so does every other user of the host."""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import APIRouter, Header
from starlette.responses import Response

from api.dependencies import CurrentServices
from core.types.codes import ReasonCode, refuse

router = APIRouter(tags=["health"])


@router.get("/metrics", response_class=Response)
async def metrics(
    services: CurrentServices,
    authorization: Annotated[str, Header()] = "",
    accept: Annotated[str, Header()] = "",
) -> Response:
    """Feed health, engine status, gateway calls and this process, in Prometheus' text format or OpenMetrics."""
    expected = f"Bearer {services.metrics_token}".encode()
    if not hmac.compare_digest(authorization.encode(), expected):
        raise refuse(
            ReasonCode.AUTH_TOKEN_INVALID,
            "Metrics need `Authorization: Bearer` with the token in secrets/metrics.token; in Prometheus' scrape "
            "configuration that is `authorization: {credentials_file: <path>}`.",
        )
    body, content_type = await services.metrics.scrape(accept)
    return Response(body, headers={"Content-Type": content_type, "Cache-Control": "no-store"})
