"""How long a request takes, against its number of images.

Three ways to ask the shipped MNIST model's `serving_default`, one request at a time,
which take turns: `signature`, the loaded SavedModel's function in Python; `session`, a
Session over its graph, as TensorFlow Serving runs it; and `grpc`, TensorFlow Serving's
service definition and its official stub on the loopback, in front of such a Session
(`tests/export/serving_stand_in.py`; the server's binary is not to be had everywhere).
Medians and 95th percentiles are by the clock, and of a machine that others may use.
"""

import pathlib
import sys
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "saved_models" / "mnist" / "1"
SIDES = ("signature", "session", "grpc")
FIRST, MOST, MOST_HELD = 1, 1024, 0
PACKAGES = ("numpy", "tensorflow", "grpcio", "tensorflow-serving-api")


def measure(most, most_held, model=MODEL, num_requests=200):
    """The rows of all sides, for requests of up to `most` images.

    Args:
        most: Images in the largest request.
        most_held: Not looked at.
        model: The version folder of an exported model.
        num_requests: Of each size and side; a quarter of it from 256 images on.
    """
    sys.path[:0] = [str(ROOT / "tests" / "export"), str(ROOT / "benchmarks")]
    import grpc
    import tensorflow as tf
    from serving_load import METHOD
    from serving_stand_in import StandIn
    from small_export import Python, Session
    from tensorflow_serving.apis import predict_pb2

    from ood_keras.inference import manifest

    shape = manifest.read(model)["input"]["image"]["shape"][1:]
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (most, *shape)).astype(np.float32) / 255
    loaded, session = Python(model), Session(model)
    server = StandIn(model.parent.name, session)
    found = {side: {} for side in SIDES}
    with grpc.insecure_channel(
        f"127.0.0.1:{server.ports[8500]}",
        options=[(f"grpc.max_{way}_message_length", -1) for way in ("send", "receive")],
    ) as channel:
        stub = channel.unary_unary(
            METHOD,
            request_serializer=predict_pb2.PredictRequest.SerializeToString,
            response_deserializer=predict_pb2.PredictResponse.FromString,
        )

        def ask(batch):
            request = predict_pb2.PredictRequest()
            request.model_spec.name = model.parent.name
            request.model_spec.signature_name = "serving_default"
            request.inputs["image"].CopyFrom(tf.make_tensor_proto(batch))
            reply = stub(request)
            return {
                name: tf.make_ndarray(value) for name, value in reply.outputs.items()
            }

        ways = {
            "signature": lambda batch: loaded("serving_default", image=batch),
            "session": lambda batch: session("serving_default", image=batch),
            "grpc": ask,
        }
        size = FIRST
        while size <= most:
            rounds = num_requests if size < 256 else max(1, num_requests // 4)
            for side, times in time_requests(ways, images[:size], rounds).items():
                found[side][str(size)] = describe(times, size)
            size *= 4
    server.close()
    return compare(found, model)


def time_requests(ways, batch, rounds):
    """`{side: milliseconds of each request}`, side by side, after five of each."""
    times = {side: [] for side in ways}
    for number in range(5 + rounds):
        scores = []
        for side, ask in ways.items():
            began = time.perf_counter()
            answer = ask(batch)
            taken = 1000 * (time.perf_counter() - began)
            scores.append(answer["ood_score"])
            if number >= 5:
                times[side].append(taken)
        for other in scores[1:]:
            np.testing.assert_allclose(other, scores[0], rtol=1e-4, atol=1e-5)
    return times


def describe(times, size):
    median, late = np.percentile(times, [50, 95])
    return {
        "p50_ms": round(float(median), 3),
        "p95_ms": round(float(late), 3),
        "p50_ms_per_image": round(float(median) / size, 4),
    }


def compare(found, model):
    """Adds to the rows the median beside that of the function in Python."""
    for side in SIDES[1:]:
        for size, row in found[side].items():
            median = found["signature"][size]["p50_ms"]
            row["times_signature"] = round(row["p50_ms"] / median, 2)
    return {"model": "/".join(model.parts[-3:]), "sides": found}


def draw(found):
    """Median, 95th percentile and median per image, against the images of a request."""
    from growth_parts import sides

    titles = {
        "p50_ms": "median, ms",
        "p95_ms": "95th percentile, ms",
        "p50_ms_per_image": "median for each image, ms",
    }
    return sides.draw(found["sides"], titles, "images in a request")
