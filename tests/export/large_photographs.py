"""Reads photographs of real size by one path; prints the memory that each took, JSON.

    python large_photographs.py PATH MODEL FOLDER SMALL PHOTOGRAPH...

PATH is "training", "whole" (which does without reducing), "predict" or "demo"; MODEL
what the last two ask; SMALL a photograph that was read before, since what is loaded for
the first one stays. For each photograph: the bytes by which the most that the process
ever had has grown, and its pixels as read, or what the model says of it.
"""

import json
import pathlib
import sys

import numpy as np
from small_export import IMAGE_SHAPE

from ood_keras import image_files, machine, resizing


def of_training(photograph):
    from ood_keras.pipelines.sources import pictures

    pixels = pictures.decode(photograph.read_bytes(), photograph)
    small = resizing.adapt(pixels[np.newaxis], IMAGE_SHAPE)[0]
    return {"shape": pixels.shape, "small": small.tolist()}


def of_whole(photograph):
    image_files.MAX_PIXELS = image_files.MAX_REDUCED_PIXELS
    return of_training(photograph)


def make_predict(model, folder):
    from ood_keras.workflows import prediction

    def predict(photograph):
        output = pathlib.Path(folder, f"{photograph.stem}.jsonl")
        prediction.predict_to_file(model=model, paths=[photograph], output=output)
        return json.loads(output.read_text())

    return predict


def make_demo(model, folder):
    from ood_keras.workflows.demo import answers

    demo = answers.Demo(model)

    def ask(photograph):
        answer = demo.file(photograph.read_bytes())
        return {
            "valid": answer.valid,
            "error": answer.reason,
            "ood_score": answer.ood_score,
        }

    return ask


def main(path, model, folder, small, *photographs):
    if path in ("training", "whole"):
        read = {"training": of_training, "whole": of_whole}[path]
    else:
        read = {"predict": make_predict, "demo": make_demo}[path](model, folder)
    read(pathlib.Path(small))
    found = []
    start = machine.peak_memory()
    for photograph in photographs:
        answer = read(pathlib.Path(photograph))
        found.append({**answer, "grown": machine.peak_memory() - start})
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
