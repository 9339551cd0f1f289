"""The API against its own description: schemathesis makes requests of it, right and wrong ones, and looks at the
answers. The daemon runs on a temporary tree; ending it is the one thing that is not tried.

api.py VENV: the environment that schemathesis is installed into, kept between runs."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

SCHEMATHESIS = "schemathesis==4.*"
# Its own list of what may answer a wrong request lacks 413: what breaks the description may be too large besides.
CONFIG = """[checks]
negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429, "5xx"]
"""
PROGRAM = os.environ.get("SPEEDLOADER", "target/debug/speedloader")
EXAMPLES = "25"


def tool(venv: pathlib.Path) -> pathlib.Path:
    """schemathesis, installed if it is not."""
    program = venv / "bin" / "schemathesis"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin" / "pip", "install", "-q", SCHEMATHESIS], check=True)
    return program


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def serve(root: pathlib.Path, port: int) -> subprocess.Popen:
    """A daemon whose mount answers."""
    for name in ["models", "cold", "mnt", "state"]:
        (root / name).mkdir()
    for name in ["a", "b"]:
        (root / "cold" / f"{name}.gguf").write_bytes(b"GGUF\x03\0\0\0" + bytes(1 << 20))
    config = root / "config.toml"
    config.write_text(f"""models_dir = "{root}/models"
mountpoint = "{root}/mnt"
state_dir = "{root}/state"
[[cold]]
path = "{root}/cold"
[[pool]]
capacity = "64MiB"
path = "{root}/pool"
[http]
listen = "127.0.0.1:{port}"
[control]
socket = "{root}/sock"
""")
    daemon = subprocess.Popen([PROGRAM, "--quiet", "serve", "--config", config])
    while daemon.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz").close()
            return daemon
        except OSError:
            time.sleep(0.05)
    sys.exit("the daemon ended before its mount answered")


def main() -> int:
    program = tool(pathlib.Path(sys.argv[1]).absolute())
    root = pathlib.Path(tempfile.mkdtemp(prefix="speedloader-api-"))
    port = free_port()
    daemon = serve(root, port)
    try:
        token = (root / "state" / "http-token").read_text().strip()
        (root / "schemathesis.toml").write_text(CONFIG)
        tried = subprocess.run(
            [program, "run", f"http://127.0.0.1:{port}/api/v1/openapi.json", "--url", f"http://127.0.0.1:{port}",
             "-H", f"Authorization: Bearer {token}", "--max-examples", EXAMPLES, "--phases", "examples,coverage,fuzzing",
             "--exclude-path-regex", "shutdown|stream|/models/wait", "--request-timeout", "30",
             # What is well-formed may still not exist, or be too large, or be busy: that is no fault of a request.
             "--exclude-checks", "positive_data_acceptance"],
            check=False, cwd=root)
        alive = daemon.poll() is None
        print(f"test result: {'ok' if tried.returncode == 0 and alive else 'FAILED'}. schemathesis, and the daemon "
              f"{'is alive' if alive else 'has ended'}")
        return 0 if tried.returncode == 0 and alive else 1
    finally:
        daemon.send_signal(signal.SIGINT)
        daemon.wait(60)
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
