"""Many clients at once: nothing lost, nothing wrong, memory flat."""

import concurrent.futures
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from small_export import Session

CLIENTS = 32


def resident_bytes():
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def requests(exported, name, predict_pb2):
    """`(request, answer or None)` of every sort; None for those that must fail."""
    run = Session(exported.path)

    def request(signature, expected=True, **inputs):
        message = predict_pb2.PredictRequest()
        message.model_spec.name = name
        message.model_spec.signature_name = signature
        for key, value in inputs.items():
            message.inputs[key].CopyFrom(tf.make_tensor_proto(value))
        return message, run(signature, **inputs) if expected else None

    images = exported.images
    bad = images[:3].copy()
    bad[1, 0, 0] = np.nan
    files = [tf.io.encode_png(pixels).numpy() for pixels in exported.pixels[:2]]
    contents = np.array([files[0], b"junk", b"", files[1][:50], files[1]], object)
    limits = np.array([np.inf, np.nan, -np.inf], np.float32)
    return [
        *(request("serving_default", image=images[row : row + 1]) for row in range(8)),
        request("serving_default", image=bad),
        request("serving_default", image=images[:0]),
        request("predict_at", image=images[:3], threshold=limits),
        request("predict_bytes", image_bytes=contents),
        request("features", image=images[:2]),
        request("serving_default", False, image=images[:2, 1:]),
        request("predict_at", False, image=images[:3], threshold=limits[:2]),
        request("serving_default", False, image=exported.pixels[:2]),
    ]


@pytest.mark.parametrize("count", [640, pytest.param(20_000, marks=pytest.mark.slow)])
def test_many_clients_are_all_answered_rightly(exported, count):
    grpc = pytest.importorskip("grpc")
    predict_pb2 = pytest.importorskip("tensorflow_serving.apis.predict_pb2")
    from serving_stand_in import StandIn
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    name = exported.path.parent.name
    server = StandIn(name, Session(exported.path))
    mix = requests(exported, name, predict_pb2)

    def client(seed):
        generator = np.random.default_rng(seed)
        wrong = 0
        with grpc.insecure_channel(f"127.0.0.1:{server.ports[8500]}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            for _ in range(count // CLIENTS):
                message, expected = mix[generator.integers(len(mix))]
                try:
                    reply = stub.Predict(message, timeout=60)
                except grpc.RpcError as error:
                    refused = error.code() == grpc.StatusCode.INVALID_ARGUMENT
                    wrong += expected is not None or not refused
                    continue
                wrong += expected is None or not all(
                    same(tf.make_ndarray(reply.outputs[key]), value)
                    for key, value in expected.items()
                )
        return wrong

    try:
        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
            assert not any(pool.map(client, range(CLIENTS)))
            before = resident_bytes()
            assert not any(pool.map(client, range(CLIENTS, 2 * CLIENTS)))
    finally:
        server.close()
    assert resident_bytes() - before < 2**26


def same(answer, expected):
    if expected.dtype == np.float32:
        return np.allclose(answer, expected, rtol=1e-5, atol=1e-6)
    return np.array_equal(answer, expected)
