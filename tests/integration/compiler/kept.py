"""A program that is kept between builds, as a compiler is: it does what each request says. Standard library only."""

import os
import signal
import sys
import time

stdin, stdout = sys.stdin.buffer, sys.stdout.buffer


def answer(text: bytes, module: bytes = b"") -> None:
    """Answers the request that was read."""
    stdout.write(len(text).to_bytes(4, "big") + len(module).to_bytes(4, "big") + text + module)
    stdout.flush()


stdout.write(b"KILN")
stdout.flush()
while size := stdin.read(4):
    match stdin.read(int.from_bytes(size, "big")).decode().split():
        case ["echo", word]:
            answer(word.encode(), b"module of " + word.encode())
        case ["pid"]:
            answer(str(os.getpid()).encode())
        case ["spin"]:
            while True:
                pass
        case ["toil", seconds]:
            while time.process_time() < float(seconds):
                pass
            answer(b"toiled")
        case ["sleep", seconds]:
            time.sleep(float(seconds))
            answer(b"slept")
        case ["eat"]:
            eaten = [b"x" * (1 << 20) for _ in range(10_000)]
        case ["flood"]:
            answer(b"x", bytes(10 << 20))
        case ["lie"]:
            stdout.write((1 << 31).to_bytes(4, "big") * 2)
            stdout.flush()
        case ["fork"]:
            if os.fork() == 0:
                time.sleep(600)
            answer(b"forked")
        case ["hold", mebibytes]:
            held = b"x" * (int(mebibytes) << 20)
            answer(b"held")
        case ["complain", word]:
            print(word, file=sys.stderr, flush=True)
            answer(b"complained")
        case ["die"]:
            print("last words", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        case ["exit"]:
            sys.exit(0)
