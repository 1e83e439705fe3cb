"""LitServe on the same OpenVINO graph: a worker for each core, each with one inference thread."""

import os
from typing import Any

import litserve
import numpy as np
from fastapi import Request
from numpy.typing import NDArray

from benchmarks.peers import name_classes, read_arguments
from brainscan.engine import choose_engine
from brainscan.scan import read_scan

folder, card, port = read_arguments()


class Classifier(litserve.LitAPI):  # type: ignore[misc]  # it ships no types
    """One scan a request."""

    def setup(self, device: str) -> None:
        """Compile the graph."""
        self.engine = choose_engine("openvino", threads=1)(folder, card)

    def decode_request(self, request: Request) -> NDArray[np.uint8]:
        """Prepare the scan of a form."""
        return read_scan(request["image"].file.read(), card.scan).pixels

    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run the graph."""
        found: NDArray[np.float32] = self.engine.predict(pixels[None]).probabilities[0]
        return found

    def encode_response(self, output: NDArray[np.float32]) -> dict[str, Any]:
        """Name the classes."""
        return name_classes(card, output.tolist())


if __name__ == "__main__":
    server = litserve.LitServer(
        Classifier(), accelerator="cpu", workers_per_device=os.cpu_count() or 1
    )
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")
