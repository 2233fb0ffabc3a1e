// Opens an exported model with the C++ loader that TensorFlow Serving is built on.
//
//   cc_session FOLDER IMAGES NUM HEIGHT WIDTH CHANNELS BATCH_SIZE FILE...
//
// Prints one line for each image (float32, from the file IMAGES) and each image FILE:
// class_id, accepted, valid, ood_score, label. Then what became of a batch of wrongly
// shaped images, of bytes instead of floats, and of an empty batch. cc_session.py
// builds and runs it.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "tensorflow/cc/saved_model/loader.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/public/session.h"

using tensorflow::Tensor;

namespace {

const std::vector<std::string> kOutputs = {"class_id", "accepted", "valid",
                                           "ood_score", "label"};

absl::Status Run(const tensorflow::SavedModelBundle& bundle,
                 const std::string& signature_name, const std::string& input_name,
                 const Tensor& input, std::vector<Tensor>* outputs) {
  const auto& signature =
      bundle.meta_graph_def.signature_def().at(signature_name);
  std::vector<std::string> names;
  for (const auto& output : kOutputs) {
    names.push_back(signature.outputs().at(output).name());
  }
  return bundle.session->Run({{signature.inputs().at(input_name).name(), input}},
                             names, {}, outputs);
}

void Print(const std::vector<Tensor>& outputs) {
  for (int row = 0; row < outputs[0].dim_size(0); ++row) {
    std::printf("%d %d %d %.9g %s\n", outputs[0].vec<int>()(row),
                outputs[1].vec<bool>()(row), outputs[2].vec<bool>()(row),
                outputs[3].vec<float>()(row),
                std::string(outputs[4].vec<tensorflow::tstring>()(row)).c_str());
  }
}

std::string Read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream content;
  content << file.rdbuf();
  return content.str();
}

void Check(const absl::Status& status) {
  if (!status.ok()) {
    std::cerr << status.ToString() << std::endl;
    std::exit(1);
  }
}

}  // namespace

int main(int argc, char** argv) {
  tensorflow::SavedModelBundle bundle;
  Check(tensorflow::LoadSavedModel({}, {}, argv[1], {"serve"}, &bundle));
  const int height = std::atoi(argv[4]), width = std::atoi(argv[5]),
            channels = std::atoi(argv[6]);
  std::vector<Tensor> outputs;

  std::ifstream pixels(argv[2], std::ios::binary);
  const int num_images = std::atoi(argv[3]), batch_size = std::atoi(argv[7]);
  for (int start = 0; start < num_images; start += batch_size) {
    Tensor images(tensorflow::DT_FLOAT, {std::min(batch_size, num_images - start),
                                         height, width, channels});
    pixels.read(static_cast<char*>(images.data()), images.TotalBytes());
    if (!pixels) {
      std::cerr << "too few pixels in " << argv[2] << std::endl;
      return 1;
    }
    Check(Run(bundle, "serving_default", "image", images, &outputs));
    Print(outputs);
  }

  if (argc > 8) {
    Tensor files(tensorflow::DT_STRING, {argc - 8});
    for (int row = 0; row < argc - 8; ++row) {
      files.vec<tensorflow::tstring>()(row) = Read(argv[8 + row]);
    }
    Check(Run(bundle, "predict_bytes", "image_bytes", files, &outputs));
    Print(outputs);
  }

  Tensor tall(tensorflow::DT_FLOAT, {2, height + 1, width, channels});
  tall.flat<float>().setZero();
  Tensor bytes(tensorflow::DT_UINT8, {2, height, width, channels});
  bytes.flat<tensorflow::uint8>().setZero();
  for (const Tensor& wrong : {tall, bytes}) {
    const bool taken =
        Run(bundle, "serving_default", "image", wrong, &outputs).ok();
    std::printf("%s\n", taken ? "taken" : "refused");
  }
  Tensor none(tensorflow::DT_FLOAT, {0, height, width, channels});
  Check(Run(bundle, "serving_default", "image", none, &outputs));
  std::printf("%d answers\n", static_cast<int>(outputs[0].dim_size(0)));
}
