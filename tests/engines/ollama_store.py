#!/usr/bin/env python3
"""Do to a store of models what Ollama's server does, by the same system calls in the same order.

    python3 ollama_store.py create STORE NAME[:TAG] MODEL.gguf    # ollama create
    python3 ollama_store.py pull   STORE NAME[:TAG] MODEL.gguf    # partial files, 16 writers
    python3 ollama_store.py pull --interrupt STORE NAME MODEL.gguf   # stops half way; again: resumes
    python3 ollama_store.py list   STORE                          # ollama list
    python3 ollama_store.py cp     STORE NAME OTHER
    python3 ollama_store.py show   STORE NAME                     # prints the blob that `run` opens
    python3 ollama_store.py verify STORE                          # every blob against its name
    python3 ollama_store.py rm     STORE NAME
    python3 ollama_store.py serve  STORE                          # the clean-up when it starts

No registry has the server, so this replays it (as of August 2026). Standard library only.
"""
import argparse
import concurrent.futures
import glob
import hashlib
import json
import os
import random
import re
import sys
import time

MODEL = "application/vnd.ollama.image.model"
PARAMS = "application/vnd.ollama.image.params"
CONFIG = "application/vnd.docker.container.image.v1+json"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
COPY_BYTES = 32 * 1024  # of Go's io.Copy
PART_BYTES_MIN, PART_BYTES_MAX, PARTS = 100 * 10**6, 1000 * 10**6, 16
GRACE_S = 3600  # the clean-up leaves younger blobs alone
BLOB_NAME = re.compile(r"sha256-[0-9a-fA-F]{64}")


class Interrupted(Exception):
    """A pull was stopped half way, as asked; its partial files stay."""


def pieces(path):
    with open(path, "rb") as file:
        while piece := file.read(COPY_BYTES):
            yield piece


def sha256_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_in_place(path, document, mode):
    """Truncate and write, as Ollama writes all its documents: no rename, no fsync."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.write(fd, json.dumps(document, separators=(",", ":")).encode() + b"\n")
    finally:
        os.close(fd)


class Store:
    """A directory that OLLAMA_MODELS may name."""

    def __init__(self, root, part_bytes_min=PART_BYTES_MIN):
        self.root, self.part_bytes_min = root, part_bytes_min
        for name in ("blobs", "manifests"):
            os.makedirs(self.path(name), 0o755, exist_ok=True)

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    def blob(self, digest):
        return self.path("blobs", digest.replace(":", "-"))

    def manifest_path(self, name):
        name, _, tag = name.partition(":")
        return self.path("manifests", "registry.ollama.ai", "library", name, tag or "latest")

    def manifest(self, name):
        with open(self.manifest_path(name), "rb") as file:
            os.fstat(file.fileno())
            return json.load(file)

    def manifests(self):
        found = {}
        for path in glob.glob(self.path("manifests", "*", "*", "*", "*")):
            if not os.path.isdir(path):
                with open(path, "rb") as file:
                    found[path] = json.load(file)
        return found

    def digests_in_use(self):
        layers = (m["layers"] + [m["config"]] for m in self.manifests().values())
        return {layer["digest"] for some in layers for layer in some}

    def new_layer(self, contents, media_type):
        """A temporary file beside the blobs, hashed while written, renamed, made readable, touched."""
        temporary = self.path("blobs", f"sha256-{random.randrange(10**10)}")
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        whole, size = hashlib.sha256(), 0
        try:
            for piece in contents:
                whole.update(piece)
                size += os.write(fd, piece)
        finally:
            os.close(fd)
        digest = "sha256:" + whole.hexdigest()
        blob = self.blob(digest)
        try:
            os.stat(blob)
        except FileNotFoundError:
            os.rename(temporary, blob)
            os.chmod(blob, 0o644)
        os.utime(blob)
        try:
            os.unlink(temporary)  # always tried: gone after the rename
        except FileNotFoundError:
            pass
        return {"mediaType": media_type, "digest": digest, "size": size}

    def write_manifest(self, name, model, others=()):
        config = {"model_format": "gguf", "model_family": "llama", "model_families": ["llama"],
                  "model_type": "random", "file_type": "F16", "architecture": "amd64", "os": "linux",
                  "rootfs": {"type": "layers", "diff_ids": [model["digest"]]}}
        config = self.new_layer([json.dumps(config).encode()], CONFIG)
        path = self.manifest_path(name)
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config,
                    "layers": [model, *others]}
        write_in_place(path, document, 0o666)

    def create(self, name, gguf):
        model = self.new_layer(pieces(gguf), MODEL)
        with open(self.blob(model["digest"]), "rb") as file:
            if file.read(4) != b"GGUF":
                raise SystemExit(f"{gguf} is no GGUF file")
        self.write_manifest(name, model, [self.new_layer([b'{"temperature":0}'], PARAMS)])

    def pull(self, name, gguf, interrupt=False):
        digest, total = "sha256:" + sha256_of(gguf), os.path.getsize(gguf)
        blob = self.blob(digest)
        if not os.path.exists(blob):
            self.download(blob, gguf, total, interrupt)
            if sha256_of(blob) != digest.removeprefix("sha256:"):
                os.unlink(blob)
                raise SystemExit(f"{blob} is corrupt")
        self.write_manifest(name, {"mediaType": MODEL, "digest": digest, "size": total})

    def download(self, blob, source, total, interrupt):
        """BLOB-partial at full size, written at 16 offsets at a time; BLOB-partial-N says how far."""
        parts = []
        for path in glob.glob(blob + "-partial-*"):
            with open(path, "rb") as file:
                parts.append(json.load(file))
        if not parts:
            size = min(max(total // PARTS, self.part_bytes_min), PART_BYTES_MAX)
            for number, offset in enumerate(range(0, total, size)):
                part = {"N": number, "Offset": offset, "Size": min(size, total - offset), "Completed": 0}
                parts.append(part)
                write_in_place(f"{blob}-partial-{number}", part, 0o644)
        fd = os.open(blob + "-partial", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.ftruncate(fd, total)
            with concurrent.futures.ThreadPoolExecutor(PARTS) as pool:
                left = [part for part in parts if part["Completed"] != part["Size"]]
                list(pool.map(lambda part: self.fetch(fd, blob, source, part, interrupt), left))
        finally:
            os.close(fd)
        if interrupt:
            raise Interrupted
        for part in parts:
            os.unlink(f"{blob}-partial-{part['N']}")
        os.rename(blob + "-partial", blob)

    @staticmethod
    def fetch(fd, blob, source, part, interrupt):
        stop = part["Size"] // 2 if interrupt else part["Size"]
        with open(source, "rb") as file:
            file.seek(part["Offset"] + part["Completed"])
            while part["Completed"] < stop:
                piece = file.read(min(COPY_BYTES, stop - part["Completed"]))
                os.pwrite(fd, piece, part["Offset"] + part["Completed"])
                part["Completed"] += len(piece)
        write_in_place(f"{blob}-partial-{part['N']}", part, 0o644)

    def list(self):
        """(name, bytes) of all tags."""
        top, found = self.path("manifests"), []
        for path, manifest in sorted(self.manifests().items()):
            os.stat(path)
            size = sum(layer["size"] for layer in manifest["layers"] + [manifest["config"]])
            found.append((os.path.relpath(path, top), size))
        return found

    def cp(self, name, other):
        path = self.manifest_path(other)
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        with open(self.manifest_path(name), "rb") as source, open(path, "wb") as target:
            try:  # io.Copy between files of Go
                os.copy_file_range(source.fileno(), target.fileno(), os.fstat(source.fileno()).st_size)
            except OSError:  # EXDEV, EINVAL, ENOSYS, EOPNOTSUPP
                source.seek(0)
                target.write(source.read())

    def show(self, name):
        """The blob of weights that `ollama run` gives to llama.cpp."""
        manifest = self.manifest(name)
        with open(self.blob(manifest["config"]["digest"]), "rb") as file:
            json.load(file)
        blobs = [self.blob(m["digest"]) for m in manifest["layers"] if m["mediaType"] == MODEL]
        for blob in blobs:
            with open(blob, "rb") as file:
                if file.read(4) != b"GGUF":
                    raise SystemExit(f"{blob} is no GGUF file")
        return blobs[0]

    def corrupt(self):
        """Blobs whose contents are not what their names say."""
        names = filter(BLOB_NAME.fullmatch, sorted(os.listdir(self.path("blobs"))))
        return [name for name in names if sha256_of(self.path("blobs", name)) != name[7:]]

    def rm(self, name):
        manifest = self.manifest(name)
        os.unlink(self.manifest_path(name))
        self.prune(self.path("manifests"))
        in_use = self.digests_in_use()
        for layer in manifest["layers"] + [manifest["config"]]:
            if layer["digest"] not in in_use and os.path.exists(self.blob(layer["digest"])):
                os.unlink(self.blob(layer["digest"]))

    def serve(self):
        """The clean-up at the start of `ollama serve`, unless OLLAMA_NOPRUNE is set."""
        for directory, _, names in os.walk(self.path("blobs")):
            for name in filter(lambda name: name.startswith("sha256:"), names):
                os.rename(os.path.join(directory, name),
                          os.path.join(directory, name.replace(":", "-", 1)))
        in_use = self.digests_in_use()  # a bad manifest ends it here
        for entry in os.scandir(self.path("blobs")):
            age_s = time.time() - entry.stat(follow_symlinks=False).st_mtime
            if entry.is_dir() or age_s < GRACE_S:
                continue
            if not BLOB_NAME.fullmatch(entry.name) or entry.name.replace("-", ":") not in in_use:
                os.unlink(entry.path)
        self.prune(self.path("manifests"))

    def prune(self, path):
        """Remove empty directories, deepest first, the top one as well."""
        if os.path.isdir(path) and not os.path.islink(path):
            for name in os.listdir(path):
                self.prune(os.path.join(path, name))
            if not os.listdir(path):
                os.rmdir(path)


def main():
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("command", choices=[
        "create", "pull", "list", "cp", "show", "verify", "rm", "serve"])
    ap.add_argument("store")
    ap.add_argument("args", nargs="*")
    ap.add_argument("--interrupt", action="store_true", help="pull: stop half way")
    ap.add_argument("--part-bytes-min", type=int, default=PART_BYTES_MIN, help="pull: least bytes of a part")
    args = ap.parse_intermixed_args()
    store = Store(args.store, args.part_bytes_min)
    if args.command == "pull":
        try:
            store.pull(*args.args, interrupt=args.interrupt)
        except Interrupted:
            sys.exit("interrupted half way, as asked: partial files stay")
    elif args.command == "list":
        for name, size in store.list():
            print(f"{name}\t{size}")
    elif args.command == "show":
        print(store.show(*args.args))
    elif args.command == "verify":
        corrupt = store.corrupt()
        sys.exit("corrupt: " + " ".join(corrupt) if corrupt else 0)
    else:
        getattr(store, args.command)(*args.args)


if __name__ == "__main__":
    main()
