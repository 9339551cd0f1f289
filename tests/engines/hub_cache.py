#!/usr/bin/env python3
"""A hub cache made by huggingface_hub itself is served by a mount under the names that people know.

    DIR/base/bin/python tests/engines/hub_cache.py --cold DIR --program 'speedloader --socket SOCK'

A server on this machine takes the place of huggingface.co. Two revisions of a repository of GGUF files
and one of safetensors are fetched into a cold directory of a running mount by the library; then the
daemon is asked what it sees. Exit status: 0 as expected, 1 not.
"""
import argparse
import hashlib
import http.server
import json
import os
import pathlib
import shlex
import struct
import subprocess
import tempfile
import threading

GGUF = b"GGUF" + struct.pack("<IQQ", 3, 0, 0)
TENSOR = json.dumps({"a": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}}).encode()
SAFETENSORS = struct.pack("<Q", len(TENSOR)) + TENSOR + bytes(8)
# repository: (commit, branch, files)
REPOSITORIES = {
    "org/quants-GGUF": ("a" * 40, "main", {"tiny-Q4_K_M.gguf": GGUF, "tiny-Q8_0.gguf": GGUF + b"\0", "README.md": b"# tiny"}),
    "org/whole": ("b" * 40, "main", {"config.json": b'{"model_type": "llama"}', "model.safetensors": SAFETENSORS, "sub/notes.txt": b"x"}),
}


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as the library asks for."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body, headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        path = self.path.split("?")[0]
        for name, (commit, _, files) in REPOSITORIES.items():
            info = {"id": name, "modelId": name, "sha": commit, "private": False, "downloads": 0, "tags": [],
                    "siblings": [{"rfilename": file} for file in files]}
            if path.startswith(f"/api/models/{name}/tree/"):
                tree = [{"type": "file", "path": file, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                        for file, data in files.items()]
                return self.answer(200, json.dumps(tree).encode(), [("Content-Type", "application/json")])
            if path.startswith(f"/api/models/{name}"):
                return self.answer(200, json.dumps(info).encode(), [("Content-Type", "application/json")])
            for file, data in files.items():
                if path.startswith(f"/{name}/resolve/") and path.endswith(f"/{file}"):
                    etag = hashlib.sha256(data).hexdigest()
                    return self.answer(200, data, [("ETag", f'"{etag}"'), ("X-Repo-Commit", commit), ("Accept-Ranges", "none")])
        return self.answer(404, b"{}", [("X-Error-Code", "EntryNotFound")])

    do_HEAD = do_GET


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cold", type=pathlib.Path, required=True)
    parser.add_argument("--program", required=True, help="the program with the options that reach its daemon")
    args = parser.parse_args()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # Before the library is imported, which reads them then.
    os.environ.update(HF_ENDPOINT=f"http://127.0.0.1:{server.server_port}", HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_TELEMETRY="1",
                      HF_HOME=tempfile.mkdtemp(), NO_PROXY="127.0.0.1", no_proxy="127.0.0.1")
    from huggingface_hub import __version__, snapshot_download

    cache = args.cold / "hub"
    for name in REPOSITORIES:
        snapshot_download(name, cache_dir=cache)
    program = shlex.split(args.program)
    subprocess.run([*program, "rescan"], check=True, stdout=subprocess.DEVNULL)
    failed = 0

    def expect(what, found, wanted):
        nonlocal failed
        if found != wanted:
            failed += 1
            print(f"FAILED {what}: found {found!r}, wanted {wanted!r}")

    def ask(*words):
        asked = subprocess.run([*program, *words, "--json"], check=False, capture_output=True, text=True)
        return json.loads(asked.stdout) if asked.returncode == 0 else {}

    for query, kind, size in [
        ("tiny-Q4_K_M", "gguf", len(GGUF)),
        # As llama-server -hf and Ollama's hf.co names have it.
        ("tiny-Q8_0.gguf", "gguf", len(GGUF) + 1),
        ("org/whole", "hub", None),
        (f"org/whole@{'b' * 40}", "hub", None),
        ("org/whole@main", "hub", None),
    ]:
        models = ask("models", query).get("models", [])
        expect(f"models of {query}", len(models), 1)
        for model in models:
            expect(f"kind of {query}", model["kind"], kind)
            expect(f"size of {query}", size in (None, model["size_bytes"]), True)
            expect(f"what is missing of {query}", model.get("missing", []), [])
    expect("GGUF files of the repository", len(ask("models", "org/quants-GGUF").get("models", [])), 2)
    expect("one by its quantisation", len(ask("models", "org/quants-GGUF:Q8_0").get("models", [])), 1)
    server.shutdown()
    print(f"test result: {'FAILED' if failed else 'ok'}. huggingface_hub {__version__}; {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
