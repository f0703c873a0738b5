"""The seed article's training as its text describes it, in Keras on TensorFlow.

    python article.py FOLDER CHANNELS WARM STEPS [data]

Prints images a second of STEPS batches of 32 after WARM ones; with `data` of its generator alone.
"""

import json
import sys
import time

import keras
import tensorflow as tf
from keras import layers

SIDE, BATCH = 224, 32


class Clock(keras.callbacks.Callback):
    """Notes when each step ends."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        self.ends.append(time.perf_counter())


def build(channels: int) -> keras.Model:
    net = keras.Sequential([keras.Input((SIDE, SIDE, channels))])
    for width in (32, 64, 128):
        net.add(layers.Conv2D(width, 3, activation="relu"))
        net.add(layers.MaxPooling2D(2))
    net.add(layers.Flatten())
    net.add(layers.Dense(512, activation="relu"))
    net.add(layers.Dense(1, activation="sigmoid"))
    net.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    return net


def main(folder: str, channels: str, warm: str, steps: str, part: str = "") -> None:
    generator = tf.keras.preprocessing.image.ImageDataGenerator(
        rescale=1 / 255, rotation_range=40, width_shift_range=0.2, height_shift_range=0.2,
        shear_range=0.2, zoom_range=0.2, horizontal_flip=True, fill_mode="nearest",
    )  # fmt: skip
    colour = "rgb" if channels == "3" else "grayscale"
    batches = generator.flow_from_directory(
        folder, target_size=(SIDE, SIDE), batch_size=BATCH, class_mode="binary", color_mode=colour
    )
    first, count = int(warm), int(warm) + int(steps)
    if part == "data":
        ends = []
        for _ in range(count):
            next(batches)
            ends.append(time.perf_counter())
    else:
        clock = Clock()
        build(int(channels)).fit(batches, steps_per_epoch=count, callbacks=[clock], verbose=0)
        ends = clock.ends
    print(json.dumps({"rate": BATCH * int(steps) / (ends[-1] - ends[first - 1])}))


if __name__ == "__main__":
    main(*sys.argv[1:])
