// A classifier in the browser that answers "unknown" instead of guessing.
//
//   import { load } from "./ood.js";
//   const model = await load({ runtime: "onnx" });   // or "litert"
//   const { label, ood_score } = await model.predictFile(file);
//
// Two npm packages bring the runtimes, onnxruntime-web and @litertjs/core; one of them is
// enough. The decision, with its threshold, is in the model; names and the way from
// a file to pixels are in labels.json.

/**
 * Opens the model that lies beside this module.
 *
 * @param {object} options
 * @param {"onnx" | "litert"} options.runtime What runs it; default: the first there is.
 * @param {string | URL} options.folder Where labels.json and the model are, with a
 *   slash at the end.
 * @param {string | URL} options.packages The folder node_modules, for WebAssembly.
 * @returns {Promise<Model>}
 */
export async function load({ runtime, folder = import.meta.url, packages } = {}) {
  const labels = await (await get(new URL("labels.json", folder))).json();
  const found = Object.keys(labels.runtimes);
  const name = runtime ?? found[0];
  if (!found.includes(name)) {
    throw new Error(`this folder has a model for ${found.join(", ")}, not for ${name}`);
  }
  const file = labels.runtimes[name];
  const content = await (await get(new URL(file.file, folder))).arrayBuffer();
  const from = new URL(packages ?? new URL("node_modules/", folder)).href;
  const run = await RUNTIMES[name](new Uint8Array(content), from.replace(/\/?$/, "/"));
  return new Model(labels, file, run);
}

/** What `load` opens. One picture at a time; calls that come meanwhile wait. */
export class Model {
  #run;
  #waiting = Promise.resolve();

  constructor(labels, file, run) {
    this.classNames = labels.class_names;
    this.unknownLabel = labels.unknown_label;
    this.imageShape = labels.image.shape; // [height, width, channels]
    this.background = labels.image.background;
    this.exifOrientation = labels.image.exif_orientation;
    this.threshold = file.threshold;
    this.operatingPoints = file.operating_points;
    this.dtype = file.dtype;
    this.#run = run;
  }

  /**
   * Decides for one picture: a known class, or unknown.
   *
   * @param {Float32Array | Uint8Array | Uint8ClampedArray} pixels In the order rows,
   *   columns, channels: floats in [0, 1], or bytes. Floats that are no number or out of
   *   range make it invalid, and so rejected.
   * @param {number | string} threshold The largest accepted ood_score, or the name of an
   *   operating point; without it, the one in the model.
   * @returns {Promise<{class_id: number, label: string, ood_score: number,
   *   accepted: boolean, valid: boolean, probabilities: Float32Array}>} class_id is -1
   *   if it is rejected; a higher ood_score means more likely unknown.
   */
  predict(pixels, threshold) {
    const answer = this.#waiting.then(() => this.#predict(pixels, threshold));
    this.#waiting = answer.catch(() => {});
    return answer;
  }

  async #predict(pixels, threshold) {
    const count = this.imageShape.reduce((product, size) => product * size);
    const isFloat = pixels instanceof Float32Array;
    if (pixels.length !== count || (!isFloat && pixels.BYTES_PER_ELEMENT !== 1)) {
      throw new Error(
        `expected ${count} pixels (${this.imageShape.join(" x ")}), a Float32Array in ` +
          `[0, 1] or bytes. Received: ${pixels.length}, ${pixels.constructor.name}`,
      );
    }
    let given = isFloat ? pixels : Float32Array.from(pixels, (value) => value / 255);
    let valid = true;
    if (this.dtype === "uint8") {
      // Bytes cannot say that a float was no pixel.
      valid = given.every((value) => value >= -1e-3 && value <= 1.001);
      given = Uint8Array.from(given, (value) => Math.min(255, Math.max(0, roundEven(value * 255))));
    }
    const found = await this.#run(given, [1, ...this.imageShape]);
    const answer = {
      class_id: found.class_id[0],
      ood_score: found.ood_score[0],
      accepted: Boolean(found.accepted[0]),
      valid: Boolean(found.valid[0]),
      probabilities: found.probabilities,
    };
    if (!valid) {
      Object.assign(answer, { class_id: -1, accepted: false, valid, ood_score: 3.4028234663852886e38 });
      answer.probabilities.fill(0);
    } else if (threshold !== undefined) {
      answer.accepted = answer.valid && answer.ood_score <= this.#limit(threshold);
      const best = answer.probabilities.indexOf(Math.max(...answer.probabilities));
      answer.class_id = answer.accepted ? best : -1;
    }
    answer.label = answer.class_id < 0 ? this.unknownLabel : this.classNames[answer.class_id];
    return answer;
  }

  #limit(threshold) {
    const limit = typeof threshold === "number" ? threshold : this.operatingPoints[threshold];
    if (limit === undefined || Number.isNaN(limit)) {
      const names = Object.keys(this.operatingPoints).join(", ") || "none";
      throw new Error(`there is no operating point ${threshold}; there are: ${names}`);
    }
    return Math.fround(limit);
  }

  /** Decides for an image file, a Blob; one that cannot be decoded is rejected. */
  async predictFile(file, threshold) {
    return this.predict(await this.pixelsOf(file), threshold);
  }

  /**
   * An image file as the model sees it: bytes, rows, columns, channels.
   *
   * As in training: profiles are ignored, transparent pixels laid on the background,
   * colour made grey where the model takes grey, shrunk by averaging the covered area
   * and enlarged bilinearly. What cannot be decoded becomes floats that are no number.
   */
  async pixelsOf(file) {
    let rgba;
    try {
      const bitmap = await createImageBitmap(file, {
        colorSpaceConversion: "none",
        premultiplyAlpha: "none",
        imageOrientation: this.exifOrientation ? "from-image" : "none",
      });
      rgba = readPixels(bitmap);
    } catch {
      const count = this.imageShape.reduce((product, size) => product * size);
      return new Float32Array(count).fill(NaN);
    }
    const { data, height, width } = rgba;
    return adapt(data, height, width, this.imageShape, this.background);
  }
}

/** The ImageData of a bitmap; throws for one that is larger than a canvas can be. */
function readPixels(bitmap) {
  const { width, height } = bitmap;
  try {
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    return context.getImageData(0, 0, width, height);
  } finally {
    bitmap.close();
  }
}

/**
 * RGBA bytes of any size as the bytes that a model takes.
 *
 * @param {Uint8ClampedArray} rgba Of `height` rows and `width` columns.
 * @param {number[]} shape [height, width, channels] to make, 1 or 3 channels.
 * @param {number | null} background Grey level under transparent pixels; null drops alpha.
 */
export function adapt(rgba, height, width, shape, background) {
  const [newHeight, newWidth, channels] = shape;
  const rows = weights(height, newHeight);
  const columns = weights(width, newWidth);
  const wide = new Float32Array(newHeight * width * channels);
  const line = new Float32Array(width * channels);
  const resizes = rows !== null || columns !== null;
  // Rows first, so that no more than one line of the picture is held as floats.
  for (let row = 0; row < height; row++) {
    readLine(rgba, row * width * 4, width, channels, background, line);
    for (const [place, weight] of rows === null ? [[row, 1]] : rows[row]) {
      const start = place * line.length;
      for (let i = 0; i < line.length; i++) wide[start + i] += weight * line[i];
    }
  }
  if (!resizes) return Uint8ClampedArray.from(wide, roundEven);
  const small = new Float32Array(newHeight * newWidth * channels);
  for (let row = 0; row < newHeight; row++) {
    for (let column = 0; column < width; column++) {
      const from = (row * width + column) * channels;
      for (const [place, weight] of columns === null ? [[column, 1]] : columns[column]) {
        const to = (row * newWidth + place) * channels;
        for (let i = 0; i < channels; i++) small[to + i] += weight * wide[from + i];
      }
    }
  }
  return Uint8ClampedArray.from(small, roundEven);
}

function readLine(rgba, start, width, channels, background, line) {
  const ground = background ?? 0;
  for (let column = 0; column < width; column++) {
    const pixel = start + 4 * column;
    const alpha = background === null ? 255 : rgba[pixel + 3];
    const laid = (255 - alpha) * ground + 127;
    const red = Math.floor((alpha * rgba[pixel] + laid) / 255);
    const green = Math.floor((alpha * rgba[pixel + 1] + laid) / 255);
    const blue = Math.floor((alpha * rgba[pixel + 2] + laid) / 255);
    if (channels === 3) {
      line[3 * column] = red;
      line[3 * column + 1] = green;
      line[3 * column + 2] = blue;
    } else {
      const isGrey = red === green && green === blue;
      line[column] = isGrey ? red : 0.299 * red + 0.587 * green + 0.114 * blue;
    }
  }
}

/** For each old place, the new ones that it counts for: [[place, weight], ...]. */
function weights(size, newSize) {
  if (size === newSize) return null;
  const scale = size / newSize;
  const found = Array.from({ length: size }, () => []);
  for (let place = 0; place < newSize; place++) {
    if (newSize < size) {
      const start = place * scale;
      for (let old = Math.floor(start); old < Math.min(size, start + scale); old++) {
        const covered = Math.min(old + 1, start + scale) - Math.max(old, start);
        if (covered > 0) found[old].push([place, covered / scale]);
      }
    } else {
      const centre = Math.min(size - 1, Math.max(0, (place + 0.5) * scale - 0.5));
      for (const old of new Set([Math.floor(centre), Math.ceil(centre)])) {
        const weight = 1 - Math.abs(centre - old);
        if (weight > 0) found[old].push([place, weight]);
      }
    }
  }
  return found;
}

/** To the nearest whole number, halves to the even one, as NumPy does. */
function roundEven(value) {
  const low = Math.floor(value);
  const rest = value - low;
  return rest < 0.5 || (rest === 0.5 && low % 2 === 0) ? low : low + 1;
}

const RUNTIMES = {
  async onnx(content, packages) {
    const ort = await import("onnxruntime-web");
    ort.env.wasm.wasmPaths = `${packages}onnxruntime-web/dist/`;
    // More need a page that is isolated from other origins.
    if (!globalThis.crossOriginIsolated) ort.env.wasm.numThreads = 1;
    const session = await ort.InferenceSession.create(content);
    return async (pixels, shape) => {
      const image = new ort.Tensor(pixels, shape);
      const outputs = await session.run({ image });
      return Object.fromEntries(
        Object.entries(outputs).map(([name, tensor]) => [name, tensor.data.slice()]),
      );
    };
  },

  async litert(content, packages) {
    const { loadLiteRt, loadAndCompile, Tensor } = await import("@litertjs/core");
    await (starting ??= loadLiteRt(`${packages}@litertjs/core/wasm/`));
    const compiled = await loadAndCompile(content, { accelerator: "wasm" });
    return async (pixels, shape) => {
      const image = new Tensor(pixels, shape);
      const outputs = await compiled.run({ image });
      image.delete();
      const answer = {};
      for (const [name, tensor] of Object.entries(outputs)) {
        answer[name] = tensor.toTypedArray().slice();
        tensor.delete();
      }
      return answer;
    };
  },
};
let starting; // LiteRT is started once for a page.

async function get(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} cannot be read: ${response.status}`);
  return response;
}
