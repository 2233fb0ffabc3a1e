"""The files for TensorFlow Serving, read by its own protocol buffers and stubs."""

import base64
import io
import json
import re
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
import tensorflow as tf
from small_export import Session

from ood_keras.export import serving_kit


def warm_up_records(path):
    file = path / "assets.extra" / "tf_serving_warmup_requests"
    return [record.numpy() for record in tf.data.TFRecordDataset(str(file))]


@pytest.fixture(scope="module")
def apis():
    return pytest.importorskip(
        "tensorflow_serving.apis.prediction_log_pb2",
        reason="needs the package tensorflow-serving-api",
    )


@pytest.fixture(scope="module")
def server(exported, apis):
    from serving_stand_in import StandIn

    server = StandIn(exported.path.parent.name, Session(exported.path))
    yield server
    server.close()


def test_the_page_names_the_version_that_wrote_the_model(exported):
    page = (exported.path / "serving" / "README.md").read_text()
    assert f"written by TensorFlow {tf.__version__}." in page


def test_warm_up_requests_are_read_and_answered(exported, apis):
    run = Session(exported.path)
    signatures = set()
    for record in warm_up_records(exported.path):
        log = apis.PredictionLog.FromString(record)
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        assert request.model_spec.name == exported.path.parent.name
        signatures.add(request.model_spec.signature_name)
        inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
        answer = run(request.model_spec.signature_name, **inputs)
        assert answer.get("valid", np.array(True)).all()
    assert signatures == {"serving_default", "predict_at", "features", "predict_bytes"}


def test_long_fields_have_long_lengths():
    for size in (0, 1, 127, 128, 300, 16384, 2**21):
        field = serving_kit._field(1, bytes(size))
        length, shift, position = 0, 0, 1
        while True:
            byte = field[position]
            length |= (byte & 0x7F) << shift
            shift, position = shift + 7, position + 1
            if byte < 0x80:
                break
        assert length == size == len(field) - position


def test_server_settings_are_read(exported, apis):
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    kit = exported.path / "serving"
    config = text_format.Parse(
        (kit / "models.config").read_text(), model_server_config_pb2.ModelServerConfig()
    )
    (model,) = config.model_config_list.config
    name = exported.path.parent.name
    assert (model.name, model.base_path) == (name, f"/models/{name}")
    assert model.model_platform == "tensorflow"
    batching = (kit / "batching.config").read_text()
    assert all(re.fullmatch(r"\w+ \{ value: \d+ \}", x) for x in batching.splitlines())


def test_the_compose_file_mounts_what_the_settings_name(exported):
    yaml = pytest.importorskip("yaml")
    kit = exported.path / "serving"
    (service,) = yaml.safe_load((kit / "compose.yaml").read_text())["services"].values()
    mounted = dict(volume.split(":")[:2] for volume in service["volumes"])
    models = (kit / "../..").resolve()
    assert models == exported.path.parent
    assert mounted["../.."] == f"/models/{models.name}"
    assert mounted["."] == "/kit"
    assert "--model_config_file=/kit/models.config" in service["command"]


def examples(exported, language):
    page = (exported.path / "serving" / "README.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


def run_example(command, server, folder, exported):
    for port, real in server.ports.items():
        command = [
            part.replace(f"localhost:{port}", f"localhost:{real}") for part in command
        ]
    image = tf.io.encode_png(exported.pixels[0]).numpy()
    (folder / "image.png").write_bytes(image)
    result = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_examples_of_the_page_work(exported, server, tmp_path):
    (curl,) = examples(exported, "sh")
    with_files, with_pixels, at_threshold = examples(exported, "python")
    label = Session(exported.path)("serving_default", image=exported.images[:1])[
        "label"
    ]
    label = label[0].decode()
    answer = run_example(["bash", "-c", curl], server, tmp_path, exported)
    assert f'"label": {json.dumps(label)}' in answer
    answer = run_example([sys.executable, "-c", with_files], server, tmp_path, exported)
    assert f"'label': '{label}'" in answer
    answer = run_example(
        [sys.executable, "-c", with_pixels], server, tmp_path, exported
    )
    assert "'class_id': array" in answer
    both = with_pixels.replace("np.zeros", "np.ones") + at_threshold
    answer = run_example([sys.executable, "-c", both], server, tmp_path, exported)
    ones = np.ones((1, *exported.images.shape[1:]), np.float32)
    limit = np.array([0.5], np.float32)
    label = Session(exported.path)("predict_at", image=ones, threshold=limit)["label"]
    assert answer.splitlines()[-1] == str(label)


def test_garbage_over_rest_gets_an_answer_that_is_json(exported, server):
    contents = [b"junk", tf.io.encode_png(exported.pixels[0]).numpy(), b""]
    body = {
        "signature_name": "predict_bytes",
        "instances": [
            {"image_bytes": {"b64": base64.b64encode(content).decode()}}
            for content in contents
        ],
    }
    url = f"http://127.0.0.1:{server.ports[8501]}/v1/models/{exported.path.parent.name}"
    with urllib.request.urlopen(url + ":predict", json.dumps(body).encode()) as reply:
        rows = json.load(reply)["predictions"]
    assert [row["valid"] for row in rows] == [False, True, False]
    assert [row["class_id"] for row in rows[::2]] == [-1, -1]


def test_grpc_refuses_wrong_shapes_and_types(exported, server):
    import grpc
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    with grpc.insecure_channel(f"127.0.0.1:{server.ports[8500]}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for images in (exported.images[:2, 1:], exported.pixels[:2]):
            request = predict_pb2.PredictRequest()
            request.model_spec.name = exported.path.parent.name
            request.inputs["image"].CopyFrom(tf.make_tensor_proto(images))
            with pytest.raises(grpc.RpcError) as error:
                stub.Predict(request, timeout=10)
            assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("path", "name"),
    [("models/mnist/1", "mnist"), ("/1", "model"), ("a b:ü/1", "a_b__")],
)
def test_the_model_is_called_as_its_folder(path, name):
    assert serving_kit.model_name(path) == name


def test_a_model_without_files_is_not_asked_about_files(tmp_path):
    serving_kit.write(tmp_path, tmp_path / "m" / "1", (4, 4, 5))
    assert len(warm_up_records(tmp_path)) == 3
    page = (tmp_path / "serving" / "README.md").read_text()
    assert "image.png" not in page and "(1, 4, 4, 5)" in page


def test_warm_up_files_hold_a_png_and_a_jpeg(exported):
    from PIL import Image

    content = b"".join(warm_up_records(exported.path))
    for start in (content.index(b"\x89PNG"), content.index(b"\xff\xd8\xff")):
        with Image.open(io.BytesIO(content[start:])) as picture:
            assert picture.size == (10, 12)
