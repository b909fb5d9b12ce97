"""`python -m bench.serving.references.sync_echo ADDRESS FILE`: grpcio with threads answers all calls with the bytes in FILE."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import grpc

# They take the interpreter in turns: two were the fastest of 1, 2, 4 and 8, half as fast again as one.
_THREADS: Final = 2


def main(address: str, answer: bytes) -> None:
    """Serves until the process ends."""
    echo: Any = grpc.unary_unary_rpc_method_handler(lambda _request, _context: answer)
    handlers = grpc.method_handlers_generic_handler("kiln.executor.v1.Executor", {"ExecuteFunction": echo})
    server = grpc.server(ThreadPoolExecutor(_THREADS))
    server.add_generic_rpc_handlers((handlers,))
    server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).read_bytes())
