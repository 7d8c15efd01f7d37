"""A server on this machine that speaks Google Cloud Storage's JSON API (gcp-storage-emulator's).

It ignores `ifGenerationMatch`, on which the lease of a run rests: here it is kept, as Google documents it.
"""

from __future__ import annotations

import threading
from functools import partial
from http import HTTPStatus
from http.server import HTTPServer
from typing import Any

from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.server import RequestHandler
from gcp_storage_emulator.storage import Storage


class GoogleStore:
    """One request at a time, so that looking whether an object is there and making it is one step."""

    def __init__(self) -> None:
        self._server = HTTPServer(("127.0.0.1", 0), partial(_Handler, _Storage(use_memory_fs=True)))
        self.environment = {
            "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{self._server.server_port}",
            "NO_GCE_CHECK": "true",  # nobody looks for the metadata server of Google's machines
        }
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _ThereError(Exception):
    pass


class _Storage(Storage):
    only_new = False

    def create_file(self, bucket_name: str, file_name: str, *content: Any) -> None:
        if self.only_new:
            try:
                self.get_file_obj(bucket_name, file_name)
            except NotFound:
                pass
            else:
                raise _ThereError
        super().create_file(bucket_name, file_name, *content)


class _Handler(RequestHandler):
    disable_nagle_algorithm = True  # it answers in many small pieces, and each would wait for the one before

    def do_POST(self) -> None:  # noqa: N802 (http.server calls it so)
        self.storage.only_new = "ifGenerationMatch=0" in self.path
        try:
            super().do_POST()
        except _ThereError:
            self.send_response(HTTPStatus.PRECONDITION_FAILED)
            self.send_header("Content-Length", "0")
            self.end_headers()
