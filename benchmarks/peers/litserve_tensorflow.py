"""LitServe with batching, on Keras with TensorFlow; the model is called in a `tf.function`."""

from typing import Any

import litserve
import numpy as np
import tensorflow as tf
from fastapi import Request
from numpy.typing import NDArray

from benchmarks.peers import load_network, name_classes, read_arguments
from brainscan.scan import read_scan

folder, card, port = read_arguments()


class Classifier(litserve.LitAPI):  # type: ignore[misc]  # it ships no types
    """One scan a request; up to eight together in the network."""

    def setup(self, device: str) -> None:
        """Load the model, and compile it for the batches to come."""
        model = load_network(folder)
        shape = tf.TensorSpec((None, *model.input_shape[1:]), tf.uint8)
        self.infer = tf.function(lambda pixels: model(pixels, training=False), [shape])

    def decode_request(self, request: Request) -> NDArray[np.uint8]:
        """Prepare the scan of a form."""
        return read_scan(request["image"].file.read(), card.scan).pixels

    def batch(self, inputs: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Stack scans."""
        return np.stack(inputs)

    def predict(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run the network."""
        found: NDArray[np.float32] = self.infer(batch).numpy()
        return found

    def unbatch(self, output: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Split them again."""
        return list(output)

    def encode_response(self, output: NDArray[np.float32]) -> dict[str, Any]:
        """Name the classes."""
        return name_classes(card, output.tolist())


if __name__ == "__main__":
    api = Classifier(max_batch_size=8, batch_timeout=0.005)
    server = litserve.LitServer(api, accelerator="cpu")
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")
