"use strict";

/**
 * A part of a CT and the numbers of its nodes, [Z, Y, X] in RAS axes: z to Superior, y to Anterior, x to Right.
 * Positions are voxel indices [z, y, x].
 */
class Scan {
  static HEADER_BYTES = 352; // of NIfTI-1

  /** @param about what the page tells: shape, affine (voxel -> L, P, S), hu_first, hu_per_level, nodes */
  constructor(about, levelsFile, labelsFile) {
    Object.assign(this, about);
    this.levelsFile = levelsFile;
    this.labelsFile = labelsFile;
    this.levels = new Uint8Array(levelsFile, Scan.HEADER_BYTES);
    this.labels = new Int16Array(labelsFile, Scan.HEADER_BYTES);
    this.byNumber = new Map(this.nodes.map((node) => [node.number, node]));
  }

  static async read(about, levelsElement, labelsElement) {
    return new Scan(about, await unpack(levelsElement), await unpack(labelsElement));
  }

  index([z, y, x]) {
    return (z * this.shape[1] + y) * this.shape[2] + x;
  }

  label(position) {
    return this.labels[this.index(position)];
  }

  /** The HU at a voxel as text; at the window's ends it is only known to lie there or beyond. */
  huText(position) {
    const [low, high] = this.window_hu;
    const hu = this.hu_first + this.hu_per_level * this.levels[this.index(position)];
    return `${hu <= low ? "\u2264 " : hu >= high ? "\u2265 " : ""}${hu} HU`.replace("-", "\u2212");
  }

  /** A voxel's place in the patient, like "R 15.7  A 15.5  S 19.1 mm". */
  placeText(position) {
    const parts = this.placeOf(position).map((mm, axis) => `${["LR", "PA", "SI"][axis][mm < 0 ? 1 : 0]} ${Math.abs(mm).toFixed(1)}`);
    return `${parts.join("  ")} mm`;
  }

  /** The centre of a voxel: L, P, S in mm. */
  placeOf([z, y, x]) {
    return this.affine.map((row) => row[0] * z + row[1] * y + row[2] * x + row[3]);
  }

  /** The voxel nearest to a place (L, P, S in mm). The affine's columns are at right angles to each other. */
  voxelOf(lps) {
    const index = [0, 1, 2].map((axis) => {
      const column = this.affine.map((row) => row[axis]);
      const along = lps.reduce((sum, mm, i) => sum + (mm - this.affine[i][3]) * column[i], 0);
      return along / column.reduce((sum, v) => sum + v * v, 0);
    });
    return this.clamp(index);
  }

  clamp(position) {
    return position.map((v, axis) => Math.min(this.shape[axis] - 1, Math.max(0, Math.round(v))));
  }
}

/** The bytes of a gzip file that an element holds as base64. */
async function unpack(element) {
  const text = atob(element.textContent.trim());
  const packed = Uint8Array.from(text, (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

/** Which array axis each plane cuts, and which run across and down the screen; all run against it. */
const PLANES = {
  axial: { axis: 0, across: 2, down: 1, sides: ["R", "L", "A", "P"] },
  coronal: { axis: 1, across: 2, down: 0, sides: ["R", "L", "S", "I"] },
  sagittal: { axis: 2, across: 1, down: 0, sides: ["A", "P", "S", "I"] },
};

/** Where each view shows which planes: left, top, width, height as parts of the stage. */
const VIEWS = {
  planes: { axial: [0, 0, 0.615, 1], coronal: [0.62, 0, 0.38, 0.495], sagittal: [0.62, 0.505, 0.38, 0.495] },
  axial: { axial: [0, 0, 1, 1] },
  coronal: { coronal: [0, 0, 1, 1] },
  sagittal: { sagittal: [0, 0, 1, 1] },
};
