"use strict";

/** NiiVue with the members that the page uses. NiiVue counts x, y, z; all else here z, y, x. */
class NiivueViewer {
  static DRAG = { contrast: 1, measure: 2, zoom: 3, cross: 8, window: 9 }; // NiiVue's numbers

  /** @param module an ES module as text @throws where there is no WebGL 2 or NiiVue does not start */
  static async start(stage, scan, module, colours) {
    const url = URL.createObjectURL(new Blob([module], { type: "text/javascript" }));
    const { Niivue } = await import(url);
    URL.revokeObjectURL(url);
    const viewer = new NiivueViewer();
    viewer.scan = scan;
    viewer.onChange = () => {};
    viewer.canvas = document.createElement("canvas");
    stage.prepend(viewer.canvas);
    const niivue = new Niivue(NiivueViewer.#OPTIONS);
    viewer.niivue = niivue;
    await niivue.attachToCanvas(viewer.canvas, true);
    await viewer.#load(colours);
    const draw = niivue.drawScene.bind(niivue);
    niivue.drawScene = () => {
      draw();
      viewer.onChange();
    };
    return viewer;
  }

  static #OPTIONS = {
    logLevel: "error",
    dragAndDropEnabled: false,
    isRadiologicalConvention: true,
    sagittalNoseLeft: true,
    crosshairColor: [0.34, 0.71, 0.91, 0.6],
    crosshairWidth: 0.4,
    crosshairWidthUnit: "mm",
    crosshairGap: 12,
    fontColor: [0.75, 0.75, 0.75, 1],
    fontMinPx: 12,
    dragMode: NiivueViewer.DRAG.window,
    dragModePrimary: NiivueViewer.DRAG.cross,
    measureLineColor: [0.34, 0.71, 0.91, 1],
    measureTextColor: [0.34, 0.71, 0.91, 1],
    rulerColor: [0.34, 0.71, 0.91, 1],
    rulerWidth: 2,
    clipPlaneHotKey: "",
    cycleClipPlaneHotKey: "",
    viewModeHotKey: "",
    isForceMouseClickToVoxelCenters: true,
  };

  async #load(colours) {
    const { niivue, scan } = this;
    const [low, high] = scan.window_hu;
    const ct = { url: "ct.nii", name: "ct.nii", buffer: scan.levelsFile, colormap: "gray", cal_min: low, cal_max: high };
    await niivue.addVolumeFromUrl(ct);
    if (!scan.nodes.length) return;
    const labels = { url: "nodes.nii", name: "nodes.nii", buffer: scan.labelsFile, opacity: 0 };
    const volume = await niivue.addVolumeFromUrl(labels);
    volume.setColormapLabel(NiivueViewer.#colourTable(scan.nodes, colours));
    niivue.updateGLVolume();
  }

  static #colourTable(nodes, colours) {
    const table = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: [""] };
    for (const node of nodes) {
      const value = parseInt(colours[node.size].slice(1), 16);
      table.R.push(value >> 16);
      table.G.push((value >> 8) & 255);
      table.B.push(value & 255);
      table.A.push(255);
      table.I.push(node.number);
      table.labels.push(String(node.number));
    }
    return table;
  }

  get position() {
    const { niivue, scan } = this;
    return scan.clamp([...niivue.frac2vox(niivue.scene.crosshairPos)].slice(0, 3).reverse());
  }

  moveTo(position) {
    const { niivue, scan } = this;
    niivue.scene.crosshairPos = niivue.vox2frac([...scan.clamp(position)].reverse());
    niivue.drawScene();
  }

  /** Make the pictures `zoom` times as large around a position. */
  zoomTo(zoom, position) {
    const { niivue } = this;
    const middle = niivue.frac2mm([0.5, 0.5, 0.5]);
    const place = niivue.frac2mm(niivue.vox2frac([...position].reverse()));
    const pan = zoom === 1 ? [0, 0, 0] : [0, 1, 2].map((axis) => middle[axis] - zoom * place[axis]);
    niivue.scene.pan2Dxyzmm = [...pan, zoom];
    niivue.drawScene();
  }

  show(layout) {
    const types = { axial: 0, coronal: 1, sagittal: 2 }; // NiiVue's numbers
    this.niivue.scene.pan2Dxyzmm = [0, 0, 0, 1];
    this.niivue.setCustomLayout(
      Object.entries(layout).map(([plane, position]) => ({ sliceType: types[plane], position })),
    );
  }

  setWindow(low, high) {
    const [ct] = this.niivue.volumes;
    ct.cal_min = low;
    ct.cal_max = high;
    this.niivue.updateGLVolume();
  }

  setFill(opacity) {
    if (this.niivue.volumes.length > 1) this.niivue.setOpacity(1, opacity);
  }

  /** What dragging with the first button does: "cross", "zoom" (the wheel too) or "measure". */
  setTool(name) {
    this.niivue.opts.dragModePrimary = NiivueViewer.DRAG[name];
    this.niivue.opts.dragMode = name === "zoom" ? NiivueViewer.DRAG.zoom : NiivueViewer.DRAG.window;
    this.niivue.drawScene();
  }

  tiles() {
    const { niivue, position } = this;
    const scale = niivue.uiData.dpr || 1;
    const planes = ["axial", "coronal", "sagittal"];
    return niivue.screenSlices
      .filter((slice) => slice.axCorSag < 3)
      .map((slice) => {
        const plane = planes[slice.axCorSag];
        const rect = slice.leftTopWidthHeight.map((v) => v / scale);
        if (rect[2] < 0) {
          rect[0] += rect[2]; // mirrored
          rect[2] = -rect[2];
        }
        const toPixel = (along, voxel) => this.#toPixel(plane, slice, rect, along, voxel);
        return { plane, index: position[PLANES[plane].axis], area: rect, toPixel };
      });
  }

  /** NiiVue's own sums, for one axis: voxel -> fraction -> mm -> part of the slice's field of view -> pixel. */
  #toPixel(plane, slice, [left, top, width, height], along, voxel) {
    const isAcross = along === PLANES[plane].across;
    const xyz = [0, 0, 0];
    xyz[2 - along] = voxel;
    const mm = this.niivue.frac2mm(this.niivue.vox2frac(xyz))[2 - along];
    const side = isAcross ? 0 : 1;
    const part = (mm - slice.leftTopMM[side]) / slice.fovMM[side];
    if (!isAcross) return top + (1 - part) * height;
    return left + (slice.leftTopWidthHeight[2] < 0 ? 1 - part : part) * width;
  }
}
