"use strict";

/**
 * Draws outlines and numbers over the pictures of either viewer.
 * A tile is { plane, index, area: [left, top, width, height], toPixel(axis, voxel) -> x or y }, in CSS pixels.
 * A shape is { text, colour, first, last, has(position) -> whether a voxel [z, y, x] is in it, isChosen }.
 */
class Marks {
  constructor(canvas) {
    this.canvas = canvas;
    this.visible = true;
  }

  draw(tiles, shapes) {
    const scale = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    if (!this.visible) return;
    const context = this.canvas.getContext("2d");
    context.scale(scale, scale);
    for (const tile of tiles) {
      context.save();
      context.beginPath();
      context.rect(...tile.area);
      context.clip();
      const cut = shapes.filter((shape) => this.#isCut(shape, tile));
      for (const shape of cut) this.#outline(context, tile, shape);
      for (const shape of cut) this.#number(context, tile, shape);
      context.restore();
    }
  }

  #isCut(shape, { plane, index }) {
    const { axis } = PLANES[plane];
    return shape.first[axis] <= index && index <= shape.last[axis];
  }

  /** Along the middle between voxels of the shape and others, by marching squares. */
  #outline(context, tile, shape) {
    const { axis, across, down } = PLANES[tile.plane];
    const position = [0, 0, 0];
    position[axis] = tile.index;
    const isInside = (v, u) => {
      if (v < shape.first[down] || v > shape.last[down] || u < shape.first[across] || u > shape.last[across]) return 0;
      position[down] = v;
      position[across] = u;
      return shape.has(position) ? 1 : 0;
    };
    const point = (v, u) => [tile.toPixel(across, u), tile.toPixel(down, v)];
    context.beginPath();
    for (let v = shape.first[down] - 1; v <= shape.last[down]; v++) {
      for (let u = shape.first[across] - 1; u <= shape.last[across]; u++) {
        const corners = isInside(v, u) | (isInside(v, u + 1) << 1) | (isInside(v + 1, u) << 2) | (isInside(v + 1, u + 1) << 3);
        const edges = [[v, u + 0.5], [v + 0.5, u], [v + 0.5, u + 1], [v + 1, u + 0.5]]; // top, left, right, bottom
        for (const [from, to] of Marks.#SEGMENTS[corners]) {
          context.moveTo(...point(...edges[from]));
          context.lineTo(...point(...edges[to]));
        }
      }
    }
    const chosen = shape.isChosen;
    context.lineCap = "round";
    for (const [colour, width] of [["#000", chosen ? 4.5 : 3], [shape.colour, chosen ? 2.5 : 1.5]]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.stroke();
    }
  }

  // by corners (bits: top left, top right, bottom left, bottom right), between edges 0 top, 1 left, 2 right, 3 bottom
  static #SEGMENTS = [
    [], [[0, 1]], [[0, 2]], [[1, 2]], [[1, 3]], [[0, 3]], [[0, 2], [1, 3]], [[2, 3]],
    [[2, 3]], [[0, 1], [2, 3]], [[0, 3]], [[1, 3]], [[1, 2]], [[0, 2]], [[0, 1]], [],
  ];

  /** To the right of the shape's box; the chosen one's in white. */
  #number(context, tile, shape) {
    const { across, down } = PLANES[tile.plane];
    const chosen = shape.isChosen;
    const text = shape.text;
    if (!text) return;
    context.font = `${chosen ? 700 : 600} 13px system-ui, sans-serif`;
    const width = context.measureText(text).width + 8;
    const [tileLeft, tileTop, tileWidth] = tile.area;
    const beside = tile.toPixel(across, shape.first[across] - 0.5) + 3; // screens run against the axis
    const left = Math.min(beside, tileLeft + tileWidth - width - 1);
    const top = Math.max(tile.toPixel(down, shape.last[down] + 0.5) - 9, tileTop + 1);
    context.fillStyle = chosen ? "#fff" : shape.colour;
    context.beginPath();
    context.roundRect(left, top, width, 17, 3);
    context.fill();
    context.strokeStyle = "#000";
    context.lineWidth = 1;
    context.stroke();
    context.fillStyle = "#000";
    context.textBaseline = "middle";
    context.fillText(text, left + 4, top + 9);
  }
}
