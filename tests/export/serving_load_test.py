"""Many clients at once: nothing lost, nothing wrong, memory flat."""

import pathlib

import pytest
import tensorflow as tf

BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    for package in ("grpc", "tensorflow_serving.apis.predict_pb2"):
        pytest.importorskip(package)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import serving_load

    return serving_load


@pytest.mark.parametrize("count", [640, pytest.param(20_000, marks=pytest.mark.slow)])
def test_many_clients_are_all_answered_rightly(benchmark, exported, count):
    found = benchmark.measure(exported.path, count, progress=lambda line: None)
    sent = {kind: entry["requests"] for kind, entry in found["kinds"].items()}
    assert sum(sent.values()) == count
    assert min(sent.values()) > 0
    assert not any(entry["wrong"] for entry in found["kinds"].values()), found["kinds"]
    assert (found["answered_rightly"], found["wrong"], found["lost"]) == (count, 0, 0)
    if count == 20_000:  # Fewer requests say nothing about memory.
        assert found["met"], found


def test_what_is_wrong_or_lost_is_counted_as_such(benchmark, exported):
    import grpc
    from small_export import Session
    from tensorflow_serving.apis import predict_pb2

    mix = {
        request.kind: request
        for request in benchmark.requests(
            Session(exported.path), exported.images.shape[1:], "name"
        )
    }
    one, wrong_shape = mix["one image"], mix["wrong shape"]

    def replies(request, **changes):
        reply = predict_pb2.PredictResponse()
        for key, value in (request.expected | changes).items():
            reply.outputs[key].CopyFrom(tf.make_tensor_proto(value))
        return lambda content, timeout: reply

    class Refused(grpc.RpcError):
        def __init__(self, code):
            self.code = lambda: code

    def refuses(code):
        def call(content, timeout):
            raise Refused(code)

        return call

    codes = grpc.StatusCode
    score = one.expected["ood_score"]
    for call, request, expected in (
        (replies(one), one, "right"),
        (replies(one, ood_score=score * 1.01), one, "wrong"),
        (replies(one, ood_score=score[:0]), one, "wrong"),
        (replies(one), wrong_shape, "wrong"),
        (refuses(codes.INVALID_ARGUMENT), wrong_shape, "right"),
        (refuses(codes.INVALID_ARGUMENT), one, "wrong"),
        (refuses(codes.UNKNOWN), wrong_shape, "wrong"),
        (refuses(codes.UNAVAILABLE), one, "lost"),
        (refuses(codes.DEADLINE_EXCEEDED), wrong_shape, "lost"),
    ):
        assert benchmark.outcome(call, request) == expected
