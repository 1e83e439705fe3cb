"""A pretrained model whose backbone stays as it is: features computed once, heads trained on them.

The backbone is every layer up to "pool", whose output is the feature vector of a scan; the head is
the layers after it. Since the backbone never changes, nor do the features: an epoch passes vectors
through a head of one layer, and no scan through the backbone. So scans cannot be varied either.
"""

import hashlib
from pathlib import Path

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray
from tqdm import tqdm

from brainscan.files import lock, move_into_place, staging_folder, sweep
from training.device import DeviceMemoryError, is_out_of_memory

FEATURES = "pool"
BATCH = 64  # scans a step through the backbone


def get_backbone(network: keras.Model) -> keras.Model:
    """Give the layers up to "pool", as a model of scans to features."""
    return keras.Model(network.inputs, network.get_layer(FEATURES).output)


def list_head(network: keras.Model) -> list[keras.Layer]:
    """Give the layers after "pool"."""
    position = [layer.name for layer in network.layers].index(FEATURES)
    return list(network.layers[position + 1 :])


def build_head(network: keras.Model) -> keras.Model:
    """Copy the layers after "pool", with fresh weights, as a model of feature vectors."""
    vectors = outputs = layers.Input(network.get_layer(FEATURES).output.shape[1:])
    for layer in list_head(network):
        outputs = type(layer).from_config(layer.get_config())(outputs)
    return keras.Model(vectors, outputs, name=network.name)


def compute_features(
    network: keras.Model, pixels: NDArray[np.uint8], part: str
) -> NDArray[np.float32]:
    """Give the feature vectors of scans: float32, shape (scans, width of "pool").

    Args:
        network: with a layer named "pool".
        pixels: uint8, shape (scans, size, size, 1).
        part: "training" or "validation", for the progress bar.

    Raises:
        DeviceMemoryError: the device has no memory for even one scan.
    """
    backbone = get_backbone(network)
    vectors = np.empty((len(pixels), backbone.output_shape[-1]), np.float32)
    batch, start = BATCH, 0
    with tqdm(desc=f"Features, {part}", total=len(pixels), unit="scan") as bar:
        while start < len(pixels):
            scans = pixels[start : start + batch]
            try:
                vectors[start : start + batch] = backbone.predict_on_batch(scans)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if batch == 1:
                    raise DeviceMemoryError(
                        "The device has too little memory to pass even one scan through the "
                        "backbone. Choose a smaller --size or a smaller model."
                    ) from error
                batch //= 2
                continue
            start += len(scans)
            bar.update(len(scans))
    return vectors


def keep_features(
    network: keras.Model, pixels: NDArray[np.uint8], part: str, cache: Path
) -> NDArray[np.float32]:
    """Give what `compute_features` does; what was computed before, in any run, is read back.

    The file's name in the cache is a digest of the scans and of the backbone's weights.
    """
    digest = hashlib.sha256(np.ascontiguousarray(pixels).data)
    for weights in get_backbone(network).get_weights():
        digest.update(np.ascontiguousarray(weights).tobytes())
    path = cache / f"features-{digest.hexdigest()[:32]}.npy"
    prefix = f".{path.stem}-"
    cache.mkdir(parents=True, exist_ok=True)
    with lock(path.with_suffix(".lock")):  # another process may be computing the same
        if not path.exists():
            sweep(cache, prefix)
            with staging_folder(path, prefix) as staging:
                np.save(staging / path.name, compute_features(network, pixels, part))
                move_into_place(staging / path.name, path)
    kept: NDArray[np.float32] = np.load(path)
    return kept
