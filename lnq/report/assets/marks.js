"use strict";

/**
 * Draws the nodes' outlines and numbers over the pictures of either viewer.
 * A tile is { plane, index, rect: [left, top, width, height], toPixel(axis, voxel) -> x or y }, in CSS pixels.
 */
class Marks {
  constructor(canvas, scan, colours) {
    this.canvas = canvas;
    this.scan = scan;
    this.colours = colours;
    this.selected = null;
    this.visible = true;
  }

  draw(tiles) {
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
      context.rect(...tile.rect);
      context.clip();
      const nodes = this.scan.nodes.filter((node) => this.#isCut(node, tile));
      for (const node of nodes) this.#outline(context, tile, node);
      for (const node of nodes) this.#number(context, tile, node);
      context.restore();
    }
  }

  #isCut(node, { plane, index }) {
    const { axis } = PLANES[plane];
    return node.first[axis] <= index && index <= node.last[axis];
  }

  /** Along the middle between voxels of the node and others, by marching squares. */
  #outline(context, tile, node) {
    const { axis, across, down } = PLANES[tile.plane];
    const position = [0, 0, 0];
    position[axis] = tile.index;
    const isNode = (v, u) => {
      if (v < node.first[down] || v > node.last[down] || u < node.first[across] || u > node.last[across]) return 0;
      position[down] = v;
      position[across] = u;
      return this.scan.label(position) === node.number ? 1 : 0;
    };
    const point = (v, u) => [tile.toPixel(across, u), tile.toPixel(down, v)];
    context.beginPath();
    for (let v = node.first[down] - 1; v <= node.last[down]; v++) {
      for (let u = node.first[across] - 1; u <= node.last[across]; u++) {
        const corners = isNode(v, u) | (isNode(v, u + 1) << 1) | (isNode(v + 1, u) << 2) | (isNode(v + 1, u + 1) << 3);
        const edges = [[v, u + 0.5], [v + 0.5, u], [v + 0.5, u + 1], [v + 1, u + 0.5]]; // top, left, right, bottom
        for (const [from, to] of Marks.#SEGMENTS[corners]) {
          context.moveTo(...point(...edges[from]));
          context.lineTo(...point(...edges[to]));
        }
      }
    }
    const chosen = node.number === this.selected;
    context.lineCap = "round";
    for (const [colour, width] of [["#000", chosen ? 4.5 : 3], [this.colours[node.size], chosen ? 2.5 : 1.5]]) {
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

  /** To the right of the node's box; the chosen node's in white. */
  #number(context, tile, node) {
    const { across, down } = PLANES[tile.plane];
    const chosen = node.number === this.selected;
    const text = String(node.number);
    context.font = `${chosen ? 700 : 600} 13px system-ui, sans-serif`;
    const width = context.measureText(text).width + 8;
    const [tileLeft, tileTop, tileWidth] = tile.rect;
    const beside = tile.toPixel(across, node.first[across] - 0.5) + 3; // screens run against the axis
    const left = Math.min(beside, tileLeft + tileWidth - width - 1);
    const top = Math.max(tile.toPixel(down, node.last[down] + 0.5) - 9, tileTop + 1);
    context.fillStyle = chosen ? "#fff" : this.colours[node.size];
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
