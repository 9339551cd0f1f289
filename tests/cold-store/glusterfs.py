"""A GlusterFS volume of two replicated bricks, all of it below one directory and on loopback.

Bricks and clients are the real programs, given their volume files by hand: the management daemon
would write below /var/lib/glusterd and want a name of this machine that is not loopback.
"""
import pathlib

from processes import Processes, await_that, begin, free_port, listens, mounted

BRICK = """\
volume posix
    type storage/posix
    option directory {directory}
    option ctime on
end-volume
volume locks
    type features/locks
    subvolumes posix
end-volume
volume index
    type features/index
    option index-base {directory}/.glusterfs/indices
    option xattrop-pending-watchlist trusted.afr.
    subvolumes locks
end-volume
volume brick
    type performance/io-threads
    subvolumes index
end-volume
volume server
    type protocol/server
    option transport-type socket
    option transport.address-family inet
    option transport.socket.bind-address 127.0.0.1
    option transport.socket.listen-port {port}
    option auth.addr.brick.allow 127.0.0.1
    subvolumes brick
end-volume
"""
CONNECTION = """\
volume client-{number}
    type protocol/client
    option transport-type socket
    option transport.address-family inet
    option remote-host 127.0.0.1
    option remote-port {port}
    option remote-subvolume brick
    option ping-timeout 42
end-volume
"""
# As `gluster volume create ... replica 2` writes it, caches included. Without `utime` (features.ctime)
# each brick has times of its own, and a file has changed when the other brick answers.
CLIENT = """\
volume replicate
    type cluster/replicate
    option afr-pending-xattr client-1,client-2
    subvolumes client-1 client-2
end-volume
volume distribute
    type cluster/distribute
    subvolumes replicate
end-volume
volume utime
    type features/utime
    subvolumes distribute
end-volume
volume read-ahead
    type performance/read-ahead
    subvolumes utime
end-volume
volume open-behind
    type performance/open-behind
    subvolumes read-ahead
end-volume
volume md-cache
    type performance/md-cache
    subvolumes open-behind
end-volume
"""
BRICKS = (1, 2)


class Store(Processes):
    NAME = "GlusterFS, two replicated bricks"
    # So exact its times of change are, in nanoseconds.
    TIMES_NS = 1
    REPLICATED = True

    def __init__(self, site):
        super().__init__(site)
        self.ports = {number: free_port() for number in BRICKS}
        for number in BRICKS:
            # The index wants the directory above its own to be there before the brick makes it.
            (self.site / f"brick-{number}/.glusterfs").mkdir(mode=0o700, parents=True)
            text = BRICK.format(directory=self.site / f"brick-{number}", port=self.ports[number])
            (self.site / f"brick-{number}.vol").write_text(text)
        connections = (CONNECTION.format(number=n, port=self.ports[n]) for n in BRICKS)
        (self.site / "client.vol").write_text("".join(connections) + CLIENT)

    def start(self, *numbers):
        for number in numbers or BRICKS:
            self.servers[number] = begin(
                "glusterfsd", "-N", "-f", self.site / f"brick-{number}.vol",
                "-l", self.site / f"brick-{number}.log")
        for number in numbers or BRICKS:
            await_that(f"brick {number}", lambda n=number: listens(self.ports[n]))

    def mount(self, where):
        """As speedloader's host does."""
        self.begin_client(where, "--read-only")

    def another_client(self, where):
        """A directory in which another machine sees the store, and writes to it."""
        self.begin_client(where)
        return where

    def begin_client(self, where, *options):
        where = pathlib.Path(where)
        where.mkdir(exist_ok=True)
        self.clients[where] = begin(
            "glusterfs", "-N", *options, "-f", self.site / "client.vol",
            "-l", self.site / f"client-{where.name}.log", where)
        await_that(f"the mount {where}", lambda: str(where) in mounted())
        await_that(f"its connections, {where}", lambda: self.connected(where))

    def connected(self, where):
        """Whether the client has both bricks: it says so on its first and on each later connection."""
        log = (self.site / f"client-{where.name}.log").read_text(errors="replace")
        return all(
            log.rfind(f"-client-{n}: Connected") > log.rfind(f"-client-{n}: disconnected")
            for n in BRICKS)

    def await_connections(self):
        for where in self.clients:
            await_that(f"the connections of {where}", lambda w=where: self.connected(w))
