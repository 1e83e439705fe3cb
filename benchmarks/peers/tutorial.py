"""As in tutorials: a Flask route that calls Keras's `model.predict`, on Flask's own server."""

from typing import Any

from flask import Flask, request

from benchmarks.peers import load_network, name_classes, read_arguments
from brainscan.scan import read_scan

folder, card, port = read_arguments()
model = load_network(folder)
app = Flask(__name__)


@app.post("/predict")
def predict() -> dict[str, Any]:
    """Answer for one scan."""
    scan = read_scan(request.files["image"].read(), card.scan)
    return name_classes(card, model.predict(scan.pixels[None], verbose=0)[0])


app.run(port=port)
