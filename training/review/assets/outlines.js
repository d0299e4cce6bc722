"use strict";

const LEAST_LEVEL = 5; // 2 %: below, a network says nothing

/**
 * What there is to be judged, and its outline as it is now. A key is a candidate's number, or "a0" for the first added
 * node.
 */
class Outlines {
  constructor(scan, growth, book) {
    this.scan = scan;
    this.growth = growth;
    this.book = book;
    this.preview = null; // { key, value } while the slider moves
    this.moved = new Map(); // thresholds of candidates that are not judged yet
    this.shapes = new Map(); // by key and all they depend on
  }

  get keys() {
    const added = this.book.state.added.map((_, index) => `a${index}`);
    return [...this.scan.candidates.map((candidate) => candidate.number), ...added];
  }

  candidate(key) {
    return this.scan.candidates.find((one) => one.number === key);
  }

  judgement(key) {
    return this.book.state.judged[key];
  }

  added(key) {
    return typeof key === "string" ? this.book.state.added[Number(key.slice(1))] : undefined;
  }

  name(key) {
    return typeof key === "string" ? `+${Number(key.slice(1)) + 1}` : String(key);
  }

  /** The kind of verdict, which has a colour. */
  kind(key) {
    if (this.added(key)) return "node";
    return { node: "node", "no node": "no-node", unsure: "unsure" }[this.judgement(key)?.verdict] ?? "open";
  }

  /** The threshold that the outline follows, or null for a ball and for what was proposed. */
  threshold(key) {
    const added = this.added(key);
    if (added?.threshold === null) return null;
    if (this.preview?.key === key) return this.preview.value / 255;
    return added ? added.threshold : (this.judgement(key)?.threshold ?? this.moved.get(key) ?? null);
  }

  #radius(key) {
    return this.preview?.key === key ? this.preview.value : this.added(key).radius_mm;
  }

  /** The voxel that the outline grows from. Null where nothing is chosen. */
  start(key) {
    const added = this.added(key);
    if (added) return this.growth.near(this.scan.voxelOf(added.lps_mm));
    const place = this.scan.starts[key - 1];
    return place ? this.scan.voxelOf(place) : null;
  }

  /** A voxel to go to. */
  place(key) {
    const added = this.added(key);
    return added ? this.scan.voxelOf(added.lps_mm) : (this.scan.marksByNumber.get(key)?.voxel ?? this.start(key));
  }

  /** The outline as a shape; made once for each threshold or radius. Null where there is nothing. */
  shape(key) {
    const added = this.added(key);
    const threshold = this.threshold(key);
    const radius = added && threshold === null ? this.#radius(key) : 0;
    const id = JSON.stringify([added ? added.lps_mm : key, threshold, radius]);
    if (!this.shapes.has(id)) this.shapes.set(id, this.#make(key, threshold, radius));
    return this.shapes.get(id);
  }

  #make(key, threshold, radius) {
    if (threshold !== null) {
      const start = this.start(key);
      return start && this.growth.grown(start, Math.min(this.growth.level(start), Math.round(255 * threshold)));
    }
    if (radius) return this.growth.ball(this.place(key), radius);
    const mark = this.scan.marksByNumber.get(key);
    return mark ? this.growth.proposed(mark) : null;
  }

  /** What the slider moves: a ball's radius in mm, or a level of the probability. Null where there is nothing. */
  range(key) {
    if (this.added(key)?.threshold === null) {
      return { isBall: true, min: RADII_MM[0], max: RADII_MM[1], step: 0.5, value: this.#radius(key) };
    }
    const start = key === null ? null : this.start(key);
    if (!start) return null;
    const max = Math.max(LEAST_LEVEL, this.growth.level(start));
    const value = Math.round(255 * (this.threshold(key) ?? this.candidate(key).level));
    return { isBall: false, min: LEAST_LEVEL, max, step: 1, value: Math.min(max, Math.max(LEAST_LEVEL, value)) };
  }
}
