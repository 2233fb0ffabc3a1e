"""Speaks TensorFlow Serving's gRPC and REST interfaces for one exported model.

The server's binary is not to be had everywhere, so this stands in for it: the official
service definitions over a Session, and the checks and JSON forms of the real one.
"""

import base64
import concurrent.futures
import http.server
import json
import threading

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import predict_pb2

SERVICE = "tensorflow.serving.PredictionService"


class StandIn:
    """Serves `run`, a loaded model, as `name` until `close`; see `ports`."""

    def __init__(self, name, run, num_threads=8):
        self._name, self._run = name, run
        self._grpc = grpc.server(concurrent.futures.ThreadPoolExecutor(num_threads))
        # Requests are parsed here: of each that its own parser fails on, grpcio 1.85
        # keeps 20 KB for ever.
        predict = grpc.unary_unary_rpc_method_handler(
            self._predict,
            response_serializer=predict_pb2.PredictResponse.SerializeToString,
        )
        handler = grpc.method_handlers_generic_handler(SERVICE, {"Predict": predict})
        self._grpc.add_generic_rpc_handlers((handler,))
        grpc_port = self._grpc.add_insecure_port("127.0.0.1:0")
        self._grpc.start()
        self._rest = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._rest.serve_forever, daemon=True).start()
        self.ports = {8500: grpc_port, 8501: self._rest.server_address[1]}

    def close(self):
        self._grpc.stop(None)
        self._rest.shutdown()
        self._rest.server_close()

    def _predict(self, content, context):
        try:
            request = predict_pb2.PredictRequest.FromString(content)
        except DecodeError as error:
            context.abort(grpc.StatusCode.INTERNAL, str(error))
        spec = request.model_spec
        try:
            inputs = {key: _array(value) for key, value in request.inputs.items()}
            outputs = self._answer(spec.name, spec.signature_name, inputs)
        except LookupError as error:
            context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        reply = predict_pb2.PredictResponse()
        for key, value in outputs.items():
            reply.outputs[key].CopyFrom(tf.make_tensor_proto(value))
        return reply

    def _answer(self, name, signature, inputs):
        if name != self._name:
            raise LookupError(f"no model {name!r}")
        signature = signature or "serving_default"
        if signature not in self._run.signatures:
            raise LookupError(f"no signature {signature!r}")
        expected = self._run.signatures[signature].inputs
        if set(inputs) != set(expected):
            raise ValueError(f"expected the inputs {sorted(expected)}")
        for key, value in inputs.items():
            dtype = tf.as_dtype(expected[key].dtype)
            if tf.as_dtype(value.dtype) != dtype:
                raise TypeError(f"{key} must be {dtype.name}, not {value.dtype}")
        return self._run(signature, **inputs)

    def _rest_answer(self, path, body):
        """The row form of the REST interface."""
        prefix, suffix = "/v1/models/", ":predict"
        if not (path.startswith(prefix) and path.endswith(suffix)):
            raise LookupError(path)
        signature = body.get("signature_name", "serving_default")
        rows = body["instances"]
        inputs = {}
        for key in self._run.signatures[signature].inputs:
            values = [
                _decoded(
                    row[key] if isinstance(row, dict) and "b64" not in row else row
                )
                for row in rows
            ]
            is_bytes = key.endswith("_bytes")
            inputs[key] = np.array(values, object if is_bytes else np.float32)
        outputs = self._answer(path[len(prefix) : -len(suffix)], signature, inputs)
        columns = {key: _plain(value) for key, value in outputs.items()}
        return {
            "predictions": [
                dict(zip(columns, values, strict=True))
                for values in zip(*columns.values(), strict=True)
            ]
        }

    def _handler(stand_in):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                content = self.rfile.read(int(self.headers["Content-Length"]))
                try:
                    answer, code = (
                        stand_in._rest_answer(self.path, json.loads(content)),
                        200,
                    )
                except LookupError as error:
                    answer, code = {"error": str(error)}, 404
                except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
                    answer, code = {"error": str(error)}, 400
                # As the real server: infinity and NaN are not JSON.
                content = json.dumps(answer, allow_nan=False).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments):
                pass

        return Handler


def _array(value):
    # NumPy takes any negative size for "as many as there are".
    if any(dimension.size < 0 for dimension in value.tensor_shape.dim):
        raise ValueError("a dimension is negative")
    return tf.make_ndarray(value)


def _decoded(value):
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value


def _plain(values):
    if values.dtype == object:
        return [value.decode() for value in values]
    return values.tolist()
