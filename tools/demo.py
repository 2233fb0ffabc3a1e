"""Serves a page on this machine to try an exported model on.

  ood-demo --model=mnist

Draw on the page, or give it a picture, a file of any format that ood-predict reads, and
see the class or "unknown", the score against the threshold among the scores of known
images, the probabilities, and the nearest known example. A drawing is cropped and
centred as MNIST's digits were; files, of 20 MB at most, are left as they are. Nothing
leaves the machine and nothing is stored. Needs pip install '.[demo]' in a checkout.

The page is for this machine alone. To let others on the network use it, by any address
in digits or by a name that leads here:

  ood-demo --model=mnist --host=0.0.0.0,demo.example.org

Other names, and pages of other servers that try to use it, are refused. Images are
judged one at a time; when too many wait, the page says so.
"""

from ood_keras.tools import app

_FLAGS = app.Flags()
_FLAGS.add_string(
    "model",
    "The version folder of a model, or the name of one that comes with the package.",
    required=True,
)
_FLAGS.add_string(
    "host",
    "The address to listen at; 0.0.0.0 lets others on the network use the page, which "
    "asks nobody for a password. After commas, other names that it is reached by; it "
    "answers for no others.",
    "127.0.0.1",
)
_FLAGS.add_integer(
    "port", "The port to listen at.", 8080, lower_bound=1, upper_bound=65535
)
_FLAGS.add_bool("browser", "Open the page in a browser.", default=True)


def _demo() -> None:
    app.load("workflows.demo.page").serve(**_FLAGS.read_arguments())


def main() -> None:
    """The command `ood-demo`."""
    app.run("ood-demo", __doc__, _FLAGS, _demo)


if __name__ == "__main__":
    main()
