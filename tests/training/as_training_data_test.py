"""Arrays and datasets as epochs of `training.fit`."""

import numpy as np
import pytest
import resumable_run
import tensorflow as tf

from ood_keras.training.as_training_data import as_training_data

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (20, 8, 8, 1), np.uint8)
LABELS = np.arange(20) % 4 - 1


def read(data, index, start_step=0):
    batches = list(data.epoch(index, start_step))
    images, labels = (np.concatenate(part) for part in zip(*batches, strict=True))
    return [np.rint(255 * image).astype(np.uint8).tobytes() for image in images], labels


def test_every_image_is_in_every_epoch_once_with_its_label():
    data = as_training_data((IMAGES, LABELS), 3, batch_size=6, seed=1)
    assert data.steps_per_epoch == 4
    own = zip(IMAGES, LABELS, strict=True)
    expected = {image.tobytes(): label for image, label in own}
    epochs = [read(data, index) for index in range(2)]
    for images, labels in epochs:
        assert dict(zip(images, labels, strict=True)) == expected
        # Unknown images are spread evenly.
        assert {np.count_nonzero(labels[i : i + 4] == -1) for i in (0, 4, 8, 12)} == {1}
    assert epochs[0][0] != epochs[1][0]
    assert read(data, 1, 2)[0] == epochs[1][0][12:]


def test_the_order_of_a_shuffled_dataset_changes_nothing():
    flat = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))
    data = [as_training_data(flat.shuffle(20).batch(5), 3, seed=1) for _ in range(2)]
    assert data[0].get_config() == data[1].get_config()
    assert read(data[0], 3)[0] == read(data[1], 3)[0]


def test_known_images_alone_will_do():
    known = LABELS >= 0
    data = as_training_data((IMAGES[known], LABELS[known]), 3)
    assert sorted(read(data, 0)[1]) == sorted(LABELS[known])


def test_images_without_labels_will_not_do():
    with pytest.raises(ValueError, match=r"no labels.*from 0 to 2"):
        as_training_data(IMAGES, 3)
    with pytest.raises(ValueError, match="Check `num_classes`"):
        as_training_data((IMAGES, LABELS), 2)


def test_data_with_epochs_of_their_own_stay_as_they_are():
    data = resumable_run.Data()
    assert as_training_data(data, 3) is data


def test_fit_takes_arrays_and_resumes(tmp_path):
    data = resumable_run.Data()
    arrays = (data.images, data.labels)
    history = resumable_run.train(tmp_path / "run", data=arrays, batch_size=16)
    assert len(history) == resumable_run.EPOCHS
    assert resumable_run.train(tmp_path / "run", data=arrays, batch_size=16) == history
    with pytest.raises(ValueError, match=r"another run.*data\.batch_size is 16 there"):
        resumable_run.train(tmp_path / "run", data=arrays, batch_size=8)
