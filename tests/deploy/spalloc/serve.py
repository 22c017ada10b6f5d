"""A real spalloc-server whose board controller is a stub: what it is asked to do has worked, or fails if the folder has a file `broken`.

Runs in an environment of its own (spalloc-server 1!7.0.0 needs older SpiNNMan and SpiNNMachine). Arguments: VERSION, or `own`, to say to
clients; then the server's own.
"""

import os
import sys

import spalloc_server.async_bmp_controller as bmp
from spalloc_server import server


class Version:
    version_number = (1, 0)


class Transceiver:
    def power_on(self, **_):
        if os.path.exists("broken"):
            raise OSError("the board controller does not answer")

    def power_off(self, **_):
        pass

    def read_bmp_version(self, **_):
        return Version


def connect(*_, **__):
    return Transceiver()


bmp.create_transceiver_from_hostname = connect
bmp._SECONDS_BETWEEN_TRIES = 0
if sys.argv[1] != "own":
    server.__version__ = sys.argv[1]
sys.exit(server.main(sys.argv[2:]))
