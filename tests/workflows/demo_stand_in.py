"""Serves the page of `ood-demo` with a model that needs no TensorFlow.

  python demo_stand_in.py PORT HOST MOST_WAITING PATIENCE [CHANNELS]

A file that begins with "sleep" takes as many seconds as it says after that.
"""

import functools
import sys
import time

import demo_model

from ood_keras import export
from ood_keras.workflows.demo import answers as demo_answers
from ood_keras.workflows.demo import connections
from ood_keras.workflows.demo import page as demo_page
from ood_keras.workflows.demo import turns as demo_turns


class Demo(demo_answers.Demo):
    """Takes its time where a file asks for it, and says what it was asked."""

    def file(self, content, point=demo_answers.DEFAULT_POINT):
        if content.startswith(b"sleep"):
            time.sleep(float(content[5:]))
        return super().file(content, point)


def main():
    port, host, most_waiting, patience, *channels = sys.argv[1:]
    shape = (*demo_model.SHAPE[:2], *map(int, channels or "1"))
    if channels:
        demo_model.Model.class_names = ("automobile", "airplane")
    export.Predictor = demo_model.Model
    export.load = lambda path: demo_model.Model(
        demo_model.known_examples(image_shape=shape), shape
    )
    demo_answers.Demo = Demo
    demo_turns.Turns = functools.partial(
        demo_turns.Turns, int(most_waiting), float(patience)
    )
    connections.HEAD_SECONDS = float(patience)
    demo_page.serve("a model", host=host, port=int(port), browser=False)


if __name__ == "__main__":
    main()
