"""Many clients at once, good requests and bad: none lost, none wrong, memory flat.

  python benchmarks/serving_load.py --model=saved_models/mnist/1 \\
      --output=benchmarks/results/serving_load.json

TensorFlow Serving's binary is not to be had everywhere, so the model is served by the
tests' stand-in: the official service definition over a Session, on the loopback. 32
clients with the official stubs send 20,000 requests in random order: images, batches,
image files, thresholds; among them NaN and 0-255 images and broken files, which must be
rejected without touching their neighbours; and requests that must fail, each with its
own status code: wrong shapes, types, names and lengths, and bytes that are no request.
Every answer is compared with what the same model answered before the run, asked
directly. Memory is that of the process, server and clients together; its slope over the
second half of the run may be 512 bytes per request at most (an image has thousands).
"""

import argparse
import collections
import concurrent.futures
import contextlib
import json
import os
import pathlib
import sys
import threading
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
LARGEST_SLOPE = 512
METHOD = "/tensorflow.serving.PredictionService/Predict"
TIMEOUT_SECONDS = 60
OUTCOMES = ("right", "wrong", "lost")

# What a client sends, as bytes, and what it must get: answers, or a status code's name.
Request = collections.namedtuple("Request", "kind content expected")


def requests(direct, image_shape, name, seed=0):
    """One request or several of every kind.

    Args:
        direct: The loaded model, `direct(signature, **inputs)`.
        image_shape: `(height, width, channels)`.
        name: That of the model on the server.
        seed: Decides the broken files.
    """
    import malformed
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    from ood_keras.export import parity

    images = parity.probes(image_shape)
    pixels = np.rint(images * 255).astype(np.uint8)
    limits = np.array([np.inf, np.nan, -np.inf], np.float32)

    def message(signature="serving_default", model=name, **inputs):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = model
        request.model_spec.signature_name = signature
        for key, value in inputs.items():
            request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
        return request

    def good(kind, signature="serving_default", **inputs):
        content = message(signature, **inputs).SerializeToString()
        return Request(kind, content, direct(signature, **inputs))

    def bad(kind, request, code="INVALID_ARGUMENT"):
        return Request(kind, request.SerializeToString(), code)

    mixed = images[:4].copy()
    mixed[1, 0, 0], mixed[3] = np.nan, 255 * mixed[3]
    yield from (good("one image", image=image[np.newaxis]) for image in images[:8])
    yield good("batch", image=images)
    yield good("batch with NaN and 0-255 images", image=mixed)
    yield good("empty batch", image=images[:0])
    yield good("thresholds", "predict_at", image=images[:3], threshold=limits)
    yield good("features", "features", image=images[:2])
    if image_shape[-1] in (1, 3):
        broken = [content for _, content in malformed.files(40, seed)]
        whole = [tf.io.encode_png(each).numpy() for each in pixels[:10]]
        for start in range(0, 40, 10):
            contents = [*broken[start : start + 10], whole[start // 4], b""]
            contents = np.array(contents, object)
            yield good(
                "image files, most broken", "predict_bytes", image_bytes=contents
            )
    yield bad("wrong shape", message(image=images[:2, 1:]))
    yield bad("wrong rank", message(image=images[0]))
    yield bad("wrong type", message(image=pixels[:2]))
    yield bad("missing input", message("predict_at", image=images[:2]))
    yield bad("unknown input", message(image=images[:2], other=limits))
    one_less = message("predict_at", image=images[:3], threshold=limits[:2])
    yield bad("one threshold too few", one_less)
    yield bad("missing signature", message("no_such", image=images[:2]), "NOT_FOUND")
    yield bad("missing model", message(model="no_such", image=images[:2]), "NOT_FOUND")
    short = message(image=images[:2])
    short.inputs["image"].tensor_content = short.inputs["image"].tensor_content[:-7]
    yield bad("tensor cut short", short)
    negative = message(image=images[:2])
    negative.inputs["image"].tensor_shape.dim[0].size = -3
    yield bad("negative dimension", negative)
    typeless = message(image=images[:2])
    typeless.inputs["image"].dtype = 0
    yield bad("tensor without a type", typeless)
    noise = np.random.default_rng(seed)
    for length in (1, 20, 3000):
        # The field number 0 makes sure that it is no message.
        yield Request("garbage", b"\x07" + noise.bytes(length), "INTERNAL")


def outcome(call, request):
    """What became of a request: "right", "wrong" or "lost"."""
    import grpc
    import tensorflow as tf

    try:
        reply = call(request.content, timeout=TIMEOUT_SECONDS)
    except grpc.RpcError as error:
        if error.code() in (
            grpc.StatusCode.DEADLINE_EXCEEDED,
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.CANCELLED,
        ):
            return "lost"
        return "right" if error.code().name == request.expected else "wrong"
    if isinstance(request.expected, str) or set(reply.outputs) != set(request.expected):
        return "wrong"
    alike = all(
        same(tf.make_ndarray(reply.outputs[key]), value)
        for key, value in request.expected.items()
    )
    return "right" if alike else "wrong"


def same(answer, expected):
    if answer.shape != expected.shape:
        return False
    if expected.dtype == np.float32:
        return np.allclose(answer, expected, rtol=1e-5, atol=1e-6)
    return np.array_equal(answer, expected)


@contextlib.contextmanager
def muted():
    """Mutes libraries that write to the process's error stream, about broken files.

    Yields a function that still prints there.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere, os.fdopen(kept, "w") as stderr:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield lambda line: print(line, file=stderr, flush=True)
        finally:
            os.dup2(kept, 2)


def resident_bytes():
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def measure(model, num_requests=20_000, num_clients=32, seed=0, progress=print):
    """The result, a dict for JSON.

    Args:
        model: The version folder of an exported model.
        num_requests: How many requests, over all clients.
        num_clients: How many clients, each with a channel of its own.
        seed: Decides who sends what.
        progress: Called with each line of progress.
    """
    import grpc
    from serving_stand_in import StandIn
    from small_export import Session
    from tensorflow_serving.apis import predict_pb2

    from ood_keras.inference import manifest

    model = pathlib.Path(model)
    image_shape = manifest.read(model)["input"]["image"]["shape"][1:]
    name = model.absolute().parent.name
    mix = list(requests(Session(model), tuple(image_shape), name, seed))
    found = collections.Counter()
    seconds, memory, lock = [], [], threading.Lock()
    every = max(1, num_requests // 200)

    def note(kind, result, duration):
        with lock:
            found[kind, result] += 1
            seconds.append(duration)
            if len(seconds) % every == 0:
                memory.append((len(seconds), resident_bytes()))
            if len(seconds) % (20 * every) == 0:
                mebibytes = resident_bytes() / 2**20
                progress(f"{len(seconds):,} requests, {mebibytes:.0f} MiB")

    def client(number):
        generator = np.random.default_rng((seed, number))
        mine = len(range(number, num_requests, num_clients))
        with grpc.insecure_channel(f"127.0.0.1:{server.ports[8500]}") as channel:
            call = channel.unary_unary(
                METHOD,
                request_serializer=bytes,
                response_deserializer=predict_pb2.PredictResponse.FromString,
            )
            for choice in generator.integers(len(mix), size=mine):
                start = time.perf_counter()
                result = outcome(call, mix[choice])
                note(mix[choice].kind, result, time.perf_counter() - start)

    server = StandIn(name, Session(model))
    began = time.perf_counter()
    try:
        with concurrent.futures.ThreadPoolExecutor(num_clients) as pool:
            list(pool.map(client, range(num_clients)))
    finally:
        server.close()
    counts, used = np.array(memory[len(memory) // 2 :], float).T
    slope = float(np.polyfit(counts, used, 1)[0]) if len(counts) > 1 else 0.0
    totals = collections.Counter()
    for (_, result), count in found.items():
        totals[result] += count
    milliseconds = 1000 * np.percentile(seconds, [50, 90, 99, 100])
    return {
        "requests": num_requests,
        "clients": num_clients,
        "seed": seed,
        "answered_rightly": totals["right"],
        "wrong": totals["wrong"],
        "lost": num_requests - totals["right"] - totals["wrong"],
        "kinds": {
            request.kind: {
                "requests": sum(found[request.kind, each] for each in OUTCOMES),
                "wrong": found[request.kind, "wrong"],
                "must_give": request.expected
                if isinstance(request.expected, str)
                else "the direct answer",
            }
            for request in mix
        },
        "memory_mebibytes": {
            "first": round(memory[0][1] / 2**20, 1),
            "halfway": round(float(used[0]) / 2**20, 1),
            "last": round(float(used[-1]) / 2**20, 1),
        },
        "memory_slope_bytes_per_request": round(slope, 1),
        "largest_slope_allowed": LARGEST_SLOPE,
        "seconds": round(time.perf_counter() - began, 1),
        "latency_ms": {
            "of": "clients and server in one process, and whatever else ran; see "
            "load_average",
            **{
                key: round(value, 1)
                for key, value in zip(
                    ("median", "p90", "p99", "largest"),
                    milliseconds.tolist(),
                    strict=True,
                )
            },
        },
        "met": totals["right"] == num_requests and slope <= LARGEST_SLOPE,
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", required=True, help="DIR/VERSION, as ood-export wrote it"
    )
    parser.add_argument(
        "--requests", type=int, default=20_000, help="default: %(default)s"
    )
    parser.add_argument("--clients", type=int, default=32, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--output", type=pathlib.Path, help="JSON file to write")
    arguments = parser.parse_args()

    sys.path.insert(0, str(ROOT / "tests" / "export"))
    from provenance import provenance

    from ood_keras.files import write_json

    begun = provenance("tensorflow", "numpy", "grpcio", "tensorflow-serving-api")
    with muted() as progress:
        result = measure(
            arguments.model,
            arguments.requests,
            arguments.clients,
            arguments.seed,
            progress,
        )
    result |= begun
    print(json.dumps(result, indent=2))
    if arguments.output:
        write_json(arguments.output, result)
    sys.exit(0 if result["met"] else 1)


if __name__ == "__main__":
    main()
