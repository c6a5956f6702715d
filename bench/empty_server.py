# SPDX-License-Identifier: Apache-2.0
"""The denominator: a `grpc.aio` server on uvloop that answers every Check with the same bytes."""

import asyncio
import signal
import sys

import grpc.aio
import uvloop
from envoy.service.auth.v3 import external_auth_pb2

from iap_authz.adapters.envoy.server import OPTIONS, SERVICE


async def serve(address: str) -> None:
    """Answer on `address` until SIGTERM."""
    response = external_auth_pb2.CheckResponse()
    response.ok_response.SetInParent()
    answer = bytes(response.SerializeToString())

    async def check(raw: bytes, context: object) -> bytes:  # noqa: ARG001 -- the handler's shape
        return answer

    server = grpc.aio.server(options=OPTIONS)
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {"Check": grpc.unary_unary_rpc_method_handler(check)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(address)
    await server.start()
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    print("serving", flush=True)
    await stopping.wait()
    await server.stop(1.0)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
