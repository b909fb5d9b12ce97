"""`python -m bench.serving.references.aio_echo ADDRESS FILE`: grpc.aio on uvloop answers all calls with the bytes in FILE."""

import sys
from pathlib import Path
from typing import Any

import grpc
import uvloop


async def main(address: str, answer: bytes) -> None:
    """Serves until the process ends."""

    async def echo(_request: bytes, _context: Any) -> bytes:
        return answer

    method: Any = grpc.unary_unary_rpc_method_handler(echo)
    handlers = grpc.method_handlers_generic_handler("kiln.executor.v1.Executor", {"ExecuteFunction": method})
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handlers,))
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], Path(sys.argv[2]).read_bytes()))
