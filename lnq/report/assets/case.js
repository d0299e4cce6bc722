"use strict";

const FILL_OPACITY = 0.35;
const byId = (id) => document.getElementById(id);
const styles = getComputedStyle(document.documentElement);
const COLOURS = Object.fromEntries(
  ["small", "medium", "large"].map((size) => [size, styles.getPropertyValue(`--${size}`).trim()]),
);

/** The page: the viewer, its controls, and the table of nodes, each following the others. */
class CasePage {
  constructor(scan, viewer, rows) {
    this.scan = scan;
    this.viewer = viewer;
    this.rows = rows; // table rows by node number
    this.marks = new Marks(byId("marks"), scan, COLOURS);
    this.view = "planes";
    this.highlighted = null;
    this.#wireControls();
    this.#wireTable();
    this.#wireKeys();
    viewer.onChange = () => this.#follow();
    viewer.show(VIEWS.planes);
    if (scan.nodes.length) this.select(scan.nodes[0].number);
    else viewer.moveTo(viewer.position);
  }

  /** Choose a node and go there. */
  select(number) {
    this.marks.selected = number;
    this.viewer.moveTo(this.scan.byNumber.get(number).voxel);
  }

  /** Choose the node `by` places further on, round and round. */
  step(by) {
    const { nodes } = this.scan;
    if (!nodes.length) return;
    const at = nodes.findIndex((node) => node.number === this.marks.selected);
    const { number } = nodes[(at + by + nodes.length) % nodes.length];
    this.select(number);
    this.rows.get(number)?.scrollIntoView({ block: "nearest" });
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

  #follow() {
    const { scan, viewer } = this;
    const position = viewer.position;
    const under = scan.label(position);
    if (under) this.marks.selected = under;
    this.marks.draw(viewer.tiles());
    const { axis } = PLANES[this.#plane];
    byId("slice").max = scan.shape[axis];
    byId("slice").value = position[axis] + 1;
    const plane = this.#plane[0].toUpperCase() + this.#plane.slice(1);
    byId("slice-name").textContent = `${plane} slice ${position[axis] + 1} of ${scan.shape[axis]}`;
    const where = `${scan.placeText(position)} \u00b7 ${scan.huText(position)}`;
    byId("where").textContent = under ? `${where} \u00b7 node ${under}` : where;
    this.#highlight();
  }

  /** The chosen node's row, and its number between the buttons. */
  #highlight() {
    const { nodes } = this.scan;
    const { selected } = this.marks;
    const at = nodes.findIndex((node) => node.number === selected);
    byId("chosen").textContent = at < 0 ? "no node" : `node ${selected} of ${nodes.length}`;
    for (const [number, isChosen] of [[this.highlighted, false], [selected, true]]) {
      const row = this.rows.get(number);
      row?.classList.toggle("chosen", isChosen);
      row?.querySelector("button").setAttribute("aria-pressed", isChosen);
    }
    this.highlighted = selected;
  }

  #wireControls() {
    byId("slice").addEventListener("input", (event) => {
      const position = [...this.viewer.position];
      position[PLANES[this.#plane].axis] = event.target.value - 1;
      this.viewer.moveTo(position);
    });
    byId("window").addEventListener("change", (event) => {
      this.viewer.setWindow(...event.target.value.split(" ").map(Number));
    });
    byId("shown").addEventListener("change", (event) => {
      this.marks.visible = event.target.value !== "none";
      this.viewer.setFill(event.target.value === "fill" ? FILL_OPACITY : 0);
      this.#follow();
    });
    byId("tool").addEventListener("change", (event) => this.viewer.setTool(event.target.value));
    byId("next").addEventListener("click", () => this.step(1));
    byId("previous").addEventListener("click", () => this.step(-1));
    for (const button of document.querySelectorAll("[data-view]")) {
      button.addEventListener("click", () => this.#show(button.dataset.view));
    }
    const hasNiivue = this.viewer instanceof NiivueViewer;
    for (const element of document.querySelectorAll(".niivue-only")) element.hidden = !hasNiivue;
    for (const id of ["next", "previous", "shown"]) byId(id).disabled = !this.scan.nodes.length;
  }

  #show(view) {
    this.view = view;
    for (const button of document.querySelectorAll("[data-view]")) {
      button.setAttribute("aria-pressed", button.dataset.view === view);
    }
    this.viewer.show(VIEWS[view]);
    this.#follow();
  }

  #wireTable() {
    for (const [number, row] of this.rows) {
      if (!this.scan.byNumber.has(number)) continue;
      row.querySelector("button").disabled = false;
      row.addEventListener("click", () => this.select(number));
    }
  }

  #wireKeys() {
    const steps = { ArrowUp: 1, ArrowDown: -1, PageUp: 5, PageDown: -5 }; // slices towards the head, front or right
    const onStage = (event) => {
      if (!(event.key in steps)) return;
      event.preventDefault();
      event.stopPropagation();
      this.scroll(steps[event.key]);
    };
    byId("stage").addEventListener("keydown", onStage, { capture: true });
    document.addEventListener("keydown", (event) => {
      if (event.target.matches("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "n") this.step(1);
      if (event.key === "p") this.step(-1);
    });
  }
}

/** NiiVue where it came along and the browser can run it; else the simple viewer, and a line that says why. */
async function startViewer(scan) {
  const stage = byId("stage");
  const code = byId("niivue");
  const isSimpleWanted = window.location.hash === "#simple";
  if (!code) return [new CanvasViewer(stage, scan), "This page was made without NiiVue: this is the simple viewer."];
  if (isSimpleWanted) return [new CanvasViewer(stage, scan), "This is the simple viewer."];
  if (!document.createElement("canvas").getContext("webgl2")) {
    return [new CanvasViewer(stage, scan), "This browser offers no WebGL 2: this is the simple viewer."];
  }
  try {
    return [await NiivueViewer.start(stage, scan, await unpack(code), COLOURS), ""];
  } catch (error) {
    console.warn(error);
    for (const canvas of stage.querySelectorAll("canvas:not(#marks)")) canvas.remove();
    return [new CanvasViewer(stage, scan), `NiiVue did not start (${error.message}): this is the simple viewer.`];
  }
}

async function start() {
  for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);
  const about = JSON.parse(byId("about").textContent);
  window.addEventListener("hashchange", () => window.location.reload());
  if (!about) return;
  try {
    const scan = await Scan.read(about, byId("levels"), byId("labels"));
    const rows = new Map([...document.querySelectorAll("tr[data-node]")].map((row) => [Number(row.dataset.node), row]));
    const [viewer, note] = await startViewer(scan);
    byId("viewer-note").textContent = note;
    byId("viewer-note").hidden = !note;
    byId("viewer").hidden = false;
    new CasePage(scan, viewer, rows);
    byId("picture")?.remove();
    document.body.dataset.viewer = viewer instanceof NiivueViewer ? "niivue" : "simple";
  } catch (error) {
    console.warn(error);
    byId("viewer").hidden = true;
    byId("viewer-note").textContent = `The viewer cannot run in this browser (${error.message}).`;
    byId("viewer-note").hidden = false;
    document.body.dataset.viewer = "none";
  }
}

start();
