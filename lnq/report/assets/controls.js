"use strict";

const byId = (id) => document.getElementById(id);

/** What stands around a viewer on every page: planes, slice, window, what dragging does, arrow keys, and the marks. */
class Controls {
  /** @param shapes a function that gives the shapes to draw, see `Marks` */
  constructor(scan, viewer, shapes) {
    this.scan = scan;
    this.viewer = viewer;
    this.shapes = shapes;
    this.marks = new Marks(byId("marks"));
    this.onFollow = () => {};
    this.view = "planes";
    this.#wire();
    this.#wireKeys();
    viewer.onChange = () => this.follow();
    viewer.show(VIEWS.planes);
  }

  /** The axis that the slider moves along, and whose slice the line below names. */
  get #plane() {
    return this.view === "planes" ? "axial" : this.view;
  }

  scroll(by) {
    const position = [...this.viewer.position];
    position[PLANES[this.#plane].axis] += by;
    this.viewer.moveTo(position);
  }

  /** Bring all around the viewer to its position, and draw the marks anew. `onFollow` may tell what lies there. */
  follow() {
    const { scan, viewer } = this;
    const position = viewer.position;
    const told = this.onFollow(position);
    this.marks.draw(viewer.tiles(), this.shapes());
    const { axis } = PLANES[this.#plane];
    byId("slice").max = scan.shape[axis];
    byId("slice").value = position[axis] + 1;
    const plane = this.#plane[0].toUpperCase() + this.#plane.slice(1);
    byId("slice-name").textContent = `${plane} slice ${position[axis] + 1} of ${scan.shape[axis]}`;
    const where = `${scan.placeText(position)} \u00b7 ${scan.huText(position)}`;
    byId("where").textContent = told ? `${where} \u00b7 ${told}` : where;
  }

  /** The voxel under a mouse event on the stage; null beside the pictures. */
  positionAt(event) {
    const { left, top } = byId("stage").getBoundingClientRect();
    const [x, y] = [event.clientX - left, event.clientY - top];
    for (const tile of this.viewer.tiles()) {
      const [tileX, tileY, width, height] = tile.area;
      if (x < tileX || y < tileY || x >= tileX + width || y >= tileY + height) continue;
      const { axis, across, down } = PLANES[tile.plane];
      const toVoxel = (along, pixel) =>
        (pixel - tile.toPixel(along, 0)) / (tile.toPixel(along, 1) - tile.toPixel(along, 0));
      const position = [0, 0, 0];
      position[axis] = tile.index;
      position[across] = toVoxel(across, x);
      position[down] = toVoxel(down, y);
      const isInside = position.every((v, i) => v >= -0.5 && v < this.scan.shape[i] - 0.5);
      return isInside ? this.scan.clamp(position) : null;
    }
    return null;
  }

  #wire() {
    byId("slice").addEventListener("input", (event) => {
      const position = [...this.viewer.position];
      position[PLANES[this.#plane].axis] = event.target.value - 1;
      this.viewer.moveTo(position);
    });
    byId("window").addEventListener("change", (event) => {
      this.viewer.setWindow(...event.target.value.split(" ").map(Number));
    });
    byId("tool").addEventListener("change", (event) => this.viewer.setTool(event.target.value));
    for (const button of document.querySelectorAll("[data-view]")) {
      button.addEventListener("click", () => this.#show(button.dataset.view));
    }
    const hasNiivue = this.viewer instanceof NiivueViewer;
    for (const element of document.querySelectorAll(".niivue-only")) element.hidden = !hasNiivue;
  }

  #show(view) {
    this.view = view;
    for (const button of document.querySelectorAll("[data-view]")) {
      button.setAttribute("aria-pressed", button.dataset.view === view);
    }
    this.viewer.show(VIEWS[view]);
    this.follow();
  }

  #wireKeys() {
    const steps = { ArrowUp: 1, ArrowDown: -1, PageUp: 5, PageDown: -5 }; // slices towards the head, front or right
    const onStage = (event) => {
      if (event.key.length === 1) event.stopPropagation(); // NiiVue's own keys, of which no control would show anything
      if (!(event.key in steps)) return;
      event.preventDefault();
      event.stopPropagation();
      this.scroll(steps[event.key]);
    };
    byId("stage").addEventListener("keydown", onStage, { capture: true });
  }
}

/**
 * Have single keys do what `actions` say, but not while something is typed. A key that is held down acts once, unless it
 * is among `repeating`. A slider keeps its arrow keys.
 */
function wireKeys(actions, repeating = []) {
  const onKey = (event) => {
    const isTyped = event.target.matches("input:not([type=range]):not([type=checkbox]), select, textarea");
    const isOfSlider = event.target.matches("input[type=range]") && event.key.startsWith("Arrow");
    if (isTyped || isOfSlider || event.ctrlKey || event.metaKey || event.altKey) return;
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    if (!event.repeat || repeating.includes(event.key)) action();
  };
  document.addEventListener("keydown", onKey, { capture: true }); // before the viewer's own keys
}

/** NiiVue where it came along and the browser can run it; else the simple viewer, and a line that says why. */
async function startViewer(scan, colours) {
  const stage = byId("stage");
  const code = byId("niivue");
  const isSimpleWanted = window.location.hash === "#simple";
  if (!code) return [new CanvasViewer(stage, scan), "This page was made without NiiVue: this is the simple viewer."];
  if (isSimpleWanted) return [new CanvasViewer(stage, scan), "This is the simple viewer."];
  if (!document.createElement("canvas").getContext("webgl2")) {
    return [new CanvasViewer(stage, scan), "This browser offers no WebGL 2: this is the simple viewer."];
  }
  try {
    return [await NiivueViewer.start(stage, scan, await unpack(code), colours), ""];
  } catch (error) {
    console.warn(error);
    for (const canvas of stage.querySelectorAll("canvas:not(#marks)")) canvas.remove();
    return [new CanvasViewer(stage, scan), `NiiVue did not start (${error.message}): this is the simple viewer.`];
  }
}

/** Start the viewer and what `makePage(scan, viewer)` puts around it; say so where that cannot be. */
async function startPage(colours, makePage) {
  const about = JSON.parse(byId("about").textContent);
  window.addEventListener("hashchange", () => window.location.reload());
  if (!about) return;
  try {
    const scan = await Scan.read(about, byId("levels"), byId("labels"));
    const [viewer, note] = await startViewer(scan, colours);
    byId("viewer-note").textContent = note;
    byId("viewer-note").hidden = !note;
    byId("viewer").hidden = false;
    await makePage(scan, viewer);
    document.body.dataset.viewer = viewer instanceof NiivueViewer ? "niivue" : "simple";
  } catch (error) {
    console.warn(error);
    byId("viewer").hidden = true;
    byId("viewer-note").textContent = `The viewer cannot run in this browser (${error.message}).`;
    byId("viewer-note").hidden = false;
    document.body.dataset.viewer = "none";
  }
}
