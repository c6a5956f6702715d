# SPDX-License-Identifier: Apache-2.0
"""`iap-authz probe`: ask a server's gRPC health, also over a Unix socket, for container probes."""

from typing import Annotated

import grpc
import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc

PROBE_TIMEOUT_SECONDS = 2.0
"""Below the shortest period that a probe is usually given."""


def probe(
    address: Annotated[str, typer.Argument(help="unix:/path/to/socket or 127.0.0.1:PORT.")],
) -> None:
    """Exit 0 if the server at ADDRESS says that it serves, else 1."""
    with grpc.insecure_channel(address) as channel:
        try:
            response = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=PROBE_TIMEOUT_SECONDS
            )
        except grpc.RpcError as error:
            typer.echo(f"iap-authz: no answer from {address}: {error.code().name}", err=True)
            raise typer.Exit(1) from None
    if response.status != health_pb2.HealthCheckResponse.SERVING:
        typer.echo(f"iap-authz: {address} is not serving", err=True)
        raise typer.Exit(1)
    typer.echo("serving")
