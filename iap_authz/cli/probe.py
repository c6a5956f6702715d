# SPDX-License-Identifier: Apache-2.0
"""`iap-authz probe`: ask a server's gRPC health, also over a Unix socket, for container probes."""

from typing import Annotated

import grpc
import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc

from iap_authz.ports import SOURCES_SERVICE

PROBE_TIMEOUT_SECONDS = 2.0
"""Below the shortest period that a probe is usually given."""


def probe(
    address: Annotated[str, typer.Argument(help="unix:/path/to/socket or 127.0.0.1:PORT.")],
    *,
    sources: Annotated[
        bool,
        typer.Option(
            "--sources",
            help="Also that a sidecar has what proves identities: keys, authorities, revocations, API keys.",
        ),
    ] = False,
) -> None:
    """Exit 0 if the server at ADDRESS says that it serves, else 1."""
    service = SOURCES_SERVICE if sources else ""
    with grpc.insecure_channel(address) as channel:
        try:
            response = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=service), timeout=PROBE_TIMEOUT_SECONDS
            )
        except grpc.RpcError as error:
            typer.echo(f"iap-authz: no answer from {address}: {error.code().name}", err=True)
            raise typer.Exit(1) from None
    if response.status != health_pb2.HealthCheckResponse.SERVING:
        lacks = " with all sources of identity; its log says which are missing" if sources else ""
        typer.echo(f"iap-authz: {address} is not serving{lacks}", err=True)
        raise typer.Exit(1)
    typer.echo("serving")
