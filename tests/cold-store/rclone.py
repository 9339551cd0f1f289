"""What an object store looks like: a directory served by `rclone serve webdav`, mounted by `rclone mount`.

Requests over HTTP, times of whole seconds, reads of ranges, no second copy on the local disk.
"""
import os
import pathlib

from processes import Processes, await_that, begin, free_port, listens, mounted


class Store(Processes):
    NAME = "rclone, over WebDAV"
    TIMES_NS = 10**9
    REPLICATED = False

    def __init__(self, site):
        super().__init__(site)
        self.port = free_port()
        self.served = self.site / "served"
        self.served.mkdir()
        # Nobody's own configuration counts.
        os.environ["RCLONE_CONFIG"] = os.devnull

    def start(self):
        self.servers[1] = begin(
            "rclone", "serve", "webdav", self.served, "--addr", f"127.0.0.1:{self.port}",
            "--dir-cache-time", "1s", "--log-file", self.site / "server.log")
        await_that("the server", lambda: listens(self.port))

    def mount(self, where):
        """As speedloader's host does."""
        where = pathlib.Path(where)
        where.mkdir(exist_ok=True)
        self.clients[where] = begin(
            "rclone", "mount", ":webdav:", where, "--webdav-url", f"http://127.0.0.1:{self.port}",
            "--webdav-vendor", "other", "--read-only", "--allow-other", "--dir-cache-time", "1s",
            "--attr-timeout", "1s", "--low-level-retries", "3", "--vfs-cache-mode", "off",
            "--log-file", self.site / "client.log")
        await_that(f"the mount {where}", lambda: str(where) in mounted())

    def another_client(self, _where):
        """Who writes to the store elsewhere writes to what is served."""
        return self.served

    def await_connections(self):
        """Each request makes its own."""
