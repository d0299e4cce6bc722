"use strict";

/**
 * Outlines on the page's grid, as `training.review.outlines` makes them on the CT's: a candidate as proposed, grown in
 * the probability from a voxel, or a ball. A level is 255 times the probability.
 */
class Growth {
  static REACH_MM = 30; // along each axis
  static NEAR_MM = 3; // likewise

  constructor(scan, levelsFile) {
    this.scan = scan;
    this.levels = new Uint8Array(levelsFile, Scan.HEADER_BYTES);
  }

  level(position) {
    return this.levels[this.scan.index(position)];
  }

  /** The candidate's own voxels. `mark`: its number and box. */
  proposed({ number, first, last }) {
    return this.#shape(first, last, (position) => this.scan.label(position) === number);
  }

  /** The most probable of the voxels near a position. */
  near(position) {
    const reach = this.scan.spacing_mm.map((mm) => Math.max(1, Math.floor(Growth.NEAR_MM / mm)));
    const first = this.scan.clamp(position.map((v, axis) => v - reach[axis]));
    const last = this.scan.clamp(position.map((v, axis) => v + reach[axis]));
    let best = position;
    for (let z = first[0]; z <= last[0]; z++) {
      for (let y = first[1]; y <= last[1]; y++) {
        for (let x = first[2]; x <= last[2]; x++) {
          if (this.level([z, y, x]) > this.level(best)) best = [z, y, x];
        }
      }
    }
    return best;
  }

  /** The voxels of at least a level that hang together with `start`, within reach. Null where there is none. */
  grown(start, level) {
    if (this.level(start) < level) return null;
    const { scan } = this;
    const reach = scan.spacing_mm.map((mm) => Math.floor(Growth.REACH_MM / mm));
    const low = scan.clamp(start.map((v, axis) => v - reach[axis]));
    const high = scan.clamp(start.map((v, axis) => v + reach[axis]));
    const [, rows, columns] = low.map((v, axis) => high[axis] - v + 1);
    const local = ([z, y, x]) => ((z - low[0]) * rows + y - low[1]) * columns + x - low[2];
    const inside = new Uint8Array((high[0] - low[0] + 1) * rows * columns);
    const first = [...start];
    const last = [...start];
    const open = [start];
    inside[local(start)] = 1;
    while (open.length) {
      const at = open.pop();
      for (let axis = 0; axis < 3; axis++) {
        first[axis] = Math.min(first[axis], at[axis]);
        last[axis] = Math.max(last[axis], at[axis]);
      }
      for (let z = Math.max(low[0], at[0] - 1); z <= Math.min(high[0], at[0] + 1); z++) {
        for (let y = Math.max(low[1], at[1] - 1); y <= Math.min(high[1], at[1] + 1); y++) {
          for (let x = Math.max(low[2], at[2] - 1); x <= Math.min(high[2], at[2] + 1); x++) {
            const next = [z, y, x];
            const index = local(next);
            if (inside[index] || this.level(next) < level) continue;
            inside[index] = 1;
            open.push(next);
          }
        }
      }
    }
    return this.#shape(first, last, (position) => inside[local(position)] === 1);
  }

  /** The voxels whose centres lie within a radius of a position, and the one there. */
  ball(middle, radius) {
    const { scan } = this;
    const reach = scan.spacing_mm.map((mm) => Math.ceil(radius / mm));
    const first = scan.clamp(middle.map((v, axis) => v - reach[axis]));
    const last = scan.clamp(middle.map((v, axis) => v + reach[axis]));
    const distance = (position) => Math.hypot(...position.map((v, axis) => (v - middle[axis]) * scan.spacing_mm[axis]));
    return this.#shape(first, last, (position) => distance(position) <= radius);
  }

  /** A shape whose voxels are looked up in a table: outlines ask for each many times. */
  #shape(first, last, isInside) {
    const [depth, rows, columns] = first.map((v, axis) => last[axis] - v + 1);
    const mask = new Uint8Array(depth * rows * columns);
    let voxels = 0;
    let index = 0;
    for (let z = first[0]; z <= last[0]; z++) {
      for (let y = first[1]; y <= last[1]; y++) {
        for (let x = first[2]; x <= last[2]; x++) voxels += mask[index++] = isInside([z, y, x]) ? 1 : 0;
      }
    }
    const has = ([z, y, x]) => mask[((z - first[0]) * rows + y - first[1]) * columns + x - first[2]] === 1;
    return { first, last, has, voxels, ml: (voxels * this.scan.spacing_mm.reduce((a, b) => a * b)) / 1000 };
  }
}
