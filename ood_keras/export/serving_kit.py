"""What TensorFlow Serving wants beside a SavedModel, and how to ask it something."""

import pathlib
import re
from collections.abc import Iterator, Mapping

import tensorflow as tf

from ood_keras.export import parity, serving
from ood_keras.types import ImageShape, Path, Tensor

_MODELS = """\
model_config_list {{
  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
  }}
}}
"""

_BATCHING = """\
max_batch_size { value: 64 }
batch_timeout_micros { value: 1000 }
max_enqueued_batches { value: 100 }
num_batch_threads { value: 4 }
"""

_COMPOSE = """\
services:
  serving:
    image: ${{TF_SERVING_IMAGE:-tensorflow/serving:latest}}
    command:
      - --model_config_file=/kit/models.config
    ports:
      - 127.0.0.1:8500:8500
      - 127.0.0.1:8501:8501
    volumes:
      - ../..:/models/{name}:ro
      - .:/kit:ro
"""

_PAGE = """\
# Serving `{name}`

    docker compose -f compose.yaml up

serves the newest version in the folder above: REST on port 8501, gRPC on port 8500, on
this machine only, since the server asks nobody for a password. A new version is picked
up within seconds. `curl localhost:8501/v1/models/{name}` says whether it is up, and
`.../{name}/metadata` lists its signatures; `../MODEL_CARD.md` and `../manifest.json`
say what the model is, takes and answers.

It was written by TensorFlow {version}. Use a server of this version or a later one;
TF_SERVING_IMAGE names another image than `tensorflow/serving:latest`.

Every export is opened through a TensorFlow Session, as the server opens it, and
compared with the original; see `../parity.json`. The server itself is not run then.

An image is accepted when `ood_score <= threshold`; else, and for anything that is no
image, `class_id` is -1 and `label` is `__unknown__`. `valid` is false for pixels that
are NaN or outside [0, 1], and for files that cannot be decoded. A wrong shape is an
error.
{files}
## Pixels, gRPC

Needs `tensorflow-serving-api`.

```python
import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

images = np.zeros({shape}, np.float32)  # in [0, 1]
request = predict_pb2.PredictRequest()
request.model_spec.name = "{name}"
request.model_spec.signature_name = "serving_default"
request.inputs["image"].CopyFrom(tf.make_tensor_proto(images))
channel = grpc.insecure_channel("localhost:8500")
stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
reply = stub.Predict(request, timeout=10)
print({{name: tf.make_ndarray(value) for name, value in reply.outputs.items()}})
```

`predict_at` takes a second input: the `threshold` to decide by, one for each image. The
operating points in `../manifest.json` are such thresholds. After the lines above:

```python
limits = np.full(len(images), 0.5, np.float32)
request.model_spec.signature_name = "predict_at"
request.inputs["threshold"].CopyFrom(tf.make_tensor_proto(limits))
reply = stub.Predict(request, timeout=10)
print(tf.make_ndarray(reply.outputs["label"]))
```

`features` answers with `features` and `logits`.

## Batching

Add `--enable_batching` and `--batching_parameters_file=/kit/batching.config` to the
command in `compose.yaml`. The server then joins requests before the model sees them,
and refuses all requests of a batch if one of them has images of another shape: let
strangers use `predict_bytes` only, where all requests have the same shape.
"""

_FILES = """
## Image files, curl

PNG or JPEG, of any size.

```sh
request='{{"signature_name": "predict_bytes",
  "instances": [{{"image_bytes": {{"b64": "%s"}}}}]}}'
printf "$request" "$(base64 < image.png | tr -d '\\n')" |
  curl -s localhost:8501/v1/models/{name}:predict -d @-
```

## Image files, Python

```python
import base64
import json
import urllib.request

with open("image.png", "rb") as file:
    content = base64.b64encode(file.read()).decode()
request = {{
    "signature_name": "predict_bytes",
    "instances": [{{"image_bytes": {{"b64": content}}}}],
}}
with urllib.request.urlopen(
    "http://localhost:8501/v1/models/{name}:predict", json.dumps(request).encode()
) as reply:
    print(json.load(reply)["predictions"][0])
```
"""


def write(folder: Path, path: Path, image_shape: ImageShape) -> None:
    """Writes warm-up requests, server settings, a compose file and a page.

    Args:
        folder: The SavedModel, where it is being made.
        path: `DIR/VERSION`, where it will lie; the model is called as DIR is.
        image_shape: `(height, width, channels)`.
    """
    name = model_name(path)
    takes_files = serving.takes_files(image_shape)
    extra = pathlib.Path(folder, "assets.extra")
    extra.mkdir()
    with tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests")) as writer:
        for signature, inputs in _warm_up(image_shape, takes_files):
            writer.write(_prediction_log(name, signature, inputs))
    kit = pathlib.Path(folder, "serving")
    kit.mkdir()
    page = _PAGE.format(
        name=name,
        shape=(1, *image_shape),
        version=tf.__version__,
        files=_FILES.format(name=name) if takes_files else "",
    )
    for file, content in {
        "models.config": _MODELS.format(name=name),
        "batching.config": _BATCHING,
        "compose.yaml": _COMPOSE.format(name=name),
        "README.md": page,
    }.items():
        (kit / file).write_text(content, encoding="utf-8")


def model_name(path: Path) -> str:
    """The name under which `DIR/VERSION` is served: that of DIR, made safe for URLs."""
    folder = pathlib.Path(path).absolute().parent.name
    return re.sub(r"[^A-Za-z0-9_.-]", "_", folder) or "model"


def _warm_up(
    image_shape: ImageShape, takes_files: bool
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """One request for each signature, `(name, inputs)`."""
    image = parity.probes(image_shape, 4)[-1:]
    yield "serving_default", {"image": image}
    yield "predict_at", {"image": image, "threshold": tf.zeros(1)}
    yield "features", {"image": image}
    if takes_files:
        pixels = tf.image.convert_image_dtype(image[0], tf.uint8)
        contents = [tf.io.encode_png(pixels), tf.io.encode_jpeg(pixels)]
        yield "predict_bytes", {"image_bytes": tf.stack(contents)}


def _prediction_log(name: str, signature: str, inputs: Mapping[str, Tensor]) -> bytes:
    """A `tensorflow.serving.PredictionLog`, serialised.

    Its protocol buffers come with `tensorflow-serving-api` only, which is too much for
    four messages: PredictionLog.predict_log = 6, PredictLog.request = 1,
    PredictRequest.model_spec = 1 and inputs = 2, ModelSpec.name = 1 and
    signature_name = 3.
    """
    request = _field(1, _field(1, name.encode()) + _field(3, signature.encode()))
    for key, value in inputs.items():
        tensor = tf.make_tensor_proto(value).SerializeToString()
        request += _field(2, _field(1, key.encode()) + _field(2, tensor))
    return _field(6, _field(1, request))


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protocol buffer."""
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    groups = []
    while number >= 0x80:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])
