"""Grad-CAM as part of the served graph (Selvaraju et al., 2017). TensorFlow, at publishing only.

The class score is the logit of the predicted class; the heat map is the positive part of the
feature maps of the last convolution, each weighted by the mean gradient of that score. OpenVINO
has no rule for the gradients of ReLU, sigmoid and max-pooling, and none is needed:

- logits are differentiated, so no sigmoid or softmax is in the way;
- a hidden dense layer's ReLU is rewritten as a product with a mask, whose gradient is that mask;
- a max-pool sends each gradient to exactly one pixel, so the mean over the pixels before it is
  the sum over the cells after it divided by the number of pixels: the pool is never crossed;
- nor is the first dense layer, whose kernel the graph would hold once more, transposed: the sum
  over the cells needs only the sum of the kernel over them.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from brainscan.engine.depths import list_feature_layers, list_middle_maps, summarise

_POOLS = (layers.MaxPooling2D, layers.AveragePooling2D)
_VECTORS = (*_POOLS, layers.GlobalAveragePooling2D, layers.Flatten, layers.Dropout)


def find_feature_layer(model: keras.Model) -> str | None:
    """Name the layer whose feature maps the heat map weighs: the last one before any pooling.

    None without a convolution, and for a network with a lesion map, which needs no heat map.
    """
    found = [] if gives_lesions(model) else list_feature_layers(model)
    return str(found[-1].name) if found else None


def gives_lesions(model: keras.Model) -> bool:
    """Tell whether a network gives a lesion map as well as probabilities."""
    return len(model.outputs) > 1


class ServedModel(tf.Module):
    """A trained model as it is served: probabilities of all classes, a map and features.

    Args:
        model: of scans (batch, size, size, 1) to probabilities (batch, classes), or (batch, 1)
            where it is one sigmoid neuron; or to a dictionary of `probabilities` and `lesion`
            (batch, rows, columns). It is taken apart: use it for nothing else after.

    Raises:
        ValueError: between the feature maps and the first dense layer is something else than
            pools, flattening and dropout.
    """

    def __init__(self, model: keras.Model) -> None:
        super().__init__()
        size = model.input_shape[1]
        self.signature = tf.TensorSpec((None, size, size, 1), tf.float32, "scans")
        self.feature_layer = find_feature_layer(model)
        self.has_lesions = gives_lesions(model)
        self.sigmoid = False
        middle = list_middle_maps(model)
        told = model.output if self.has_lesions else {"maps": self._take_apart(model)}
        self.network = keras.Model(model.inputs, {**told, "middle": middle} if middle else told)

    def __call__(self, scans: tf.Tensor) -> dict[str, tf.Tensor]:
        """Give what the model says of scans, each a float32 tensor.

        `probabilities` (batch, classes); with convolutions, `features` (batch, width) and
        `heatmap` (batch, rows, columns), 0 to 1, instead of which a model with a lesion map gives
        that: `lesion` (batch, rows, columns), 0 to 1.
        """
        outputs: dict[str, Any] = self.network(scans, training=False)
        middle = outputs.pop("middle", None)
        features = {} if middle is None else {"features": summarise(middle)}
        if self.has_lesions:
            return outputs | features
        if self.feature_layer is None:
            return {"probabilities": self._probabilities(outputs["maps"])}
        return self._explain(outputs["maps"]) | features

    def _explain(self, maps: tf.Tensor) -> dict[str, tf.Tensor]:
        """Give probabilities and heat map of the last feature maps."""
        sums = maps
        for layer in self.vectors:
            sums = layer(sums, training=False)
        with tf.GradientTape() as tape:
            tape.watch(sums)
            logits = self.activation(sums)
            for layer in self.head:
                logits = layer(logits, training=False)
        gradient = tape.gradient(logits, sums, self._choose_score(logits))
        weights = tf.matmul(gradient, self.kernel, transpose_b=True)[:, None, None]
        heat = tf.maximum(tf.reduce_sum(weights * maps, axis=-1), 0.0)
        peak = tf.reduce_max(heat, axis=(1, 2), keepdims=True)
        return {
            "probabilities": self._probabilities(logits),
            "heatmap": heat / tf.maximum(peak, 1e-12),
        }

    def _take_apart(self, model: keras.Model) -> Any:
        """Divide a model at its last feature maps, which it gives; or at its logits without any."""
        last = model.layers[-1]
        self.sigmoid = last.activation is keras.activations.sigmoid
        last.activation = keras.activations.linear
        if self.feature_layer is None:
            return last.output
        position = [layer.name for layer in model.layers].index(self.feature_layer)
        self._take_head(model.layers[position + 1 :])
        return model.layers[position].output

    def _take_head(self, head: list[keras.Layer]) -> None:
        """Divide what follows the features at the sums of the first dense layer."""
        first = next(i for i, layer in enumerate(head) if isinstance(layer, layers.Dense))
        dense = head[first]
        for layer in head[:first]:
            if not isinstance(layer, _VECTORS):
                raise ValueError(
                    f"No heat map can be made with {layer.name} between the feature maps and the "
                    "first dense layer. Accepted there: pools, Flatten, Dropout."
                )
        for layer in head[first:]:
            if isinstance(layer, layers.Dense) and layer.activation is keras.activations.relu:
                layer.activation = _masked_relu
        self.activation = dense.activation
        dense.activation = keras.activations.linear
        self.vectors, self.head = head[: first + 1], head[first + 1 :]
        # (cells × channels, units), one cell after global pooling → (channels, units)
        kernel = dense.kernel.numpy()
        channels = head[0].input.shape[-1]
        self.kernel = kernel.reshape(-1, channels, kernel.shape[-1]).sum(axis=0)

    def _probabilities(self, logits: tf.Tensor) -> tf.Tensor:
        if self.sigmoid:
            tumor = tf.sigmoid(logits)
            return tf.concat([1.0 - tumor, tumor], axis=-1)
        return tf.nn.softmax(logits)

    def _choose_score(self, logits: tf.Tensor) -> tf.Tensor:
        """Give the factors that make the predicted class's score of the logits.

        The logit of that class; one neuron's score for healthy is its negative.
        """
        if self.sigmoid:
            return tf.where(logits >= 0.0, tf.ones_like(logits), -tf.ones_like(logits))
        return tf.one_hot(tf.argmax(logits, axis=-1), logits.shape[-1])


@tf.custom_gradient
def _masked_relu(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    mask = tf.cast(x > 0.0, x.dtype)
    return x * mask, lambda upstream: upstream * mask
