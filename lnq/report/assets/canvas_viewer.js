"use strict";

/** A plain viewer, for browsers without WebGL 2. The same members as NiivueViewer. */
class CanvasViewer {
  constructor(stage, scan) {
    this.scan = scan;
    this.position = scan.shape.map((n) => n >> 1);
    this.windowHu = scan.window_hu;
    this.layout = VIEWS.planes;
    this.zoom = 1;
    this.centre = this.position; // of the pictures, where they are zoomed
    this.onChange = () => {};
    this.canvas = document.createElement("canvas");
    stage.prepend(this.canvas);
    this.slice = document.createElement("canvas"); // one slice at one pixel per voxel
    new ResizeObserver(() => this.draw()).observe(stage);
    this.#listen();
  }

  show(layout) {
    this.layout = layout;
    this.draw();
  }

  moveTo(position) {
    this.position = this.scan.clamp(position);
    this.draw();
  }

  /** Make the pictures `zoom` times as large around a position. */
  zoomTo(zoom, position) {
    this.zoom = zoom;
    this.centre = position;
    this.draw();
  }

  setWindow(low, high) {
    this.windowHu = [low, high];
    this.draw();
  }

  setFill() {} // outlines only

  tiles() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    return Object.entries(this.layout).map(([plane, [left, top, w, h]]) =>
      this.#tile(plane, left * width, top * height, w * width, h * height),
    );
  }

  /** The slice as large as it fits into a part of the stage, in its middle; or larger, and cut off by that part. */
  #tile(plane, left, top, width, height) {
    const { axis, across, down } = PLANES[plane];
    const { shape, spacing_mm: mm } = this.scan;
    const fit = Math.min(width / (shape[across] * mm[across]), height / (shape[down] * mm[down]));
    const w = this.zoom * fit * shape[across] * mm[across];
    const h = this.zoom * fit * shape[down] * mm[down];
    const middle = (along) => (this.zoom === 1 ? 0.5 : (shape[along] - 0.5 - this.centre[along]) / shape[along]);
    const x = left + width / 2 - w * middle(across);
    const y = top + height / 2 - h * middle(down);
    const toPixel = (along, voxel) =>
      along === across
        ? x + (w * (shape[across] - 0.5 - voxel)) / shape[across]
        : y + (h * (shape[down] - 0.5 - voxel)) / shape[down];
    return { plane, index: this.position[axis], rect: [x, y, w, h], area: this.#overlap([x, y, w, h], [left, top, width, height]), toPixel };
  }

  #overlap([left, top, width, height], [otherLeft, otherTop, otherWidth, otherHeight]) {
    const x = Math.max(left, otherLeft);
    const y = Math.max(top, otherTop);
    const right = Math.min(left + width, otherLeft + otherWidth);
    const bottom = Math.min(top + height, otherTop + otherHeight);
    return [x, y, Math.max(0, right - x), Math.max(0, bottom - y)];
  }

  draw() {
    const scale = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(this.canvas.clientWidth * scale);
    this.canvas.height = Math.round(this.canvas.clientHeight * scale);
    const context = this.canvas.getContext("2d");
    context.scale(scale, scale);
    for (const tile of this.tiles()) {
      this.#drawSlice(tile);
      context.save();
      context.beginPath();
      context.rect(...tile.area);
      context.clip();
      context.drawImage(this.slice, ...tile.rect);
      this.#drawCross(context, tile);
      context.restore();
    }
    this.onChange();
  }

  #drawSlice({ plane, index }) {
    const { axis, across, down } = PLANES[plane];
    const { shape, levels, hu_first: first, hu_per_level: step } = this.scan;
    const [low, high] = this.windowHu;
    const grey = Uint8ClampedArray.from({ length: 256 }, (_, level) => (255 * (first + step * level - low)) / (high - low));
    const columns = (this.slice.width = shape[across]);
    const rows = (this.slice.height = shape[down]);
    const image = new ImageData(columns, rows);
    const pixels = new Uint32Array(image.data.buffer);
    const position = [0, 0, 0];
    position[axis] = index;
    for (let row = 0; row < rows; row++) {
      position[down] = rows - 1 - row;
      for (let column = 0; column < columns; column++) {
        position[across] = columns - 1 - column;
        const value = grey[levels[this.scan.index(position)]];
        pixels[row * columns + column] = 0xff000000 | (value << 16) | (value << 8) | value;
      }
    }
    this.slice.getContext("2d").putImageData(image, 0, 0);
  }

  #drawCross(context, { plane, area: [left, top, width, height], toPixel }) {
    const { across, down, sides } = PLANES[plane];
    const x = toPixel(across, this.position[across]);
    const y = toPixel(down, this.position[down]);
    context.strokeStyle = "rgb(86 180 233 / 60%)";
    context.lineWidth = 1;
    context.beginPath();
    for (const [from, to] of [[left, x - 12], [x + 12, left + width]]) context.rect(from, y, Math.max(0, to - from), 0);
    for (const [from, to] of [[top, y - 12], [y + 12, top + height]]) context.rect(x, from, 0, Math.max(0, to - from));
    context.stroke();
    context.fillStyle = "#bbb";
    context.font = "12px system-ui, sans-serif";
    context.fillText(sides[0], left + 4, top + height / 2);
    context.fillText(sides[1], left + width - 14, top + height / 2);
    context.fillText(sides[2], left + width / 2 - 4, top + 14);
    context.fillText(sides[3], left + width / 2 - 4, top + height - 6);
  }

  #tileAt(event) {
    return this.tiles().find(({ area: [left, top, width, height] }) => {
      const [x, y] = [event.offsetX - left, event.offsetY - top];
      return x >= 0 && y >= 0 && x < width && y < height;
    });
  }

  #listen() {
    const { canvas } = this;
    const move = (event) => {
      const tile = this.#tileAt(event);
      if (!tile || !(event.buttons & 1)) return;
      const { across, down } = PLANES[tile.plane];
      const [left, top, width, height] = tile.rect;
      const position = [...this.position];
      position[across] = this.scan.shape[across] * (1 - (event.offsetX - left) / width) - 0.5;
      position[down] = this.scan.shape[down] * (1 - (event.offsetY - top) / height) - 0.5;
      this.moveTo(position);
    };
    canvas.addEventListener("pointerdown", move);
    canvas.addEventListener("pointermove", move);
    canvas.addEventListener("wheel", (event) => {
      const tile = this.#tileAt(event);
      if (!tile) return;
      event.preventDefault();
      const position = [...this.position];
      position[PLANES[tile.plane].axis] -= Math.sign(event.deltaY);
      this.moveTo(position);
    });
  }
}
