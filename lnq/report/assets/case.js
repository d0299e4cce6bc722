"use strict";

const FILL_OPACITY = 0.35;
const styles = getComputedStyle(document.documentElement);
const COLOURS = Object.fromEntries(
  ["small", "medium", "large"].map((size) => [size, styles.getPropertyValue(`--${size}`).trim()]),
);

/** The page: the viewer with its controls, and the table of nodes, each following the other. */
class CasePage {
  constructor(scan, viewer, rows) {
    this.scan = scan;
    this.viewer = viewer;
    this.rows = rows; // table rows by node number
    this.selected = null;
    this.highlighted = null;
    this.controls = new Controls(scan, viewer, () => this.#shapes());
    this.controls.onFollow = (position) => this.#follow(position);
    this.#wireControls();
    this.#wireTable();
    wireKeys({ n: () => this.step(1), p: () => this.step(-1) }, ["n", "p"]);
    if (scan.nodes.length) this.select(scan.nodes[0].number);
    else viewer.moveTo(viewer.position);
  }

  #shapes() {
    return this.scan.nodes.map((node) => ({
      text: String(node.number),
      colour: COLOURS[node.size],
      first: node.first,
      last: node.last,
      has: (position) => this.scan.label(position) === node.number,
      isChosen: node.number === this.selected,
    }));
  }

  /** Choose a node and go there. */
  select(number) {
    this.selected = number;
    this.viewer.moveTo(this.scan.byNumber.get(number).voxel);
  }

  /** Choose the node `by` places further on, round and round. */
  step(by) {
    const { nodes } = this.scan;
    if (!nodes.length) return;
    const at = nodes.findIndex((node) => node.number === this.selected);
    const { number } = nodes[(at + by + nodes.length) % nodes.length];
    this.select(number);
    this.rows.get(number)?.scrollIntoView({ block: "nearest" });
  }

  #follow(position) {
    const under = this.scan.label(position);
    if (under) this.selected = under;
    this.#highlight();
    return under ? `node ${under}` : "";
  }

  /** The chosen node's row, and its number between the buttons. */
  #highlight() {
    const { nodes } = this.scan;
    const { selected } = this;
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
    byId("shown").addEventListener("change", (event) => {
      this.controls.marks.visible = event.target.value !== "none";
      this.viewer.setFill(event.target.value === "fill" ? FILL_OPACITY : 0);
      this.controls.follow();
    });
    byId("next").addEventListener("click", () => this.step(1));
    byId("previous").addEventListener("click", () => this.step(-1));
    for (const id of ["next", "previous", "shown"]) byId(id).disabled = !this.scan.nodes.length;
  }

  #wireTable() {
    for (const [number, row] of this.rows) {
      if (!this.scan.byNumber.has(number)) continue;
      row.querySelector("button").disabled = false;
      row.addEventListener("click", () => this.select(number));
    }
  }
}

for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);
startPage(COLOURS, (scan, viewer) => {
  const rows = new Map([...document.querySelectorAll("tr[data-node]")].map((row) => [Number(row.dataset.node), row]));
  new CasePage(scan, viewer, rows);
  byId("picture")?.remove();
});
