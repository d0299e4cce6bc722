"use strict";

const ADDED_RADIUS_MM = 5;
const MOST_ML = 40; // a larger grown shape is no node: a ball is offered instead
const now = () => new Date().toISOString();
const styles = getComputedStyle(document.documentElement);
const COLOURS = Object.fromEntries(
  ["open", "node", "no-node", "unsure", "annotated"].map((kind) => [kind, styles.getPropertyValue(`--${kind}`).trim()]),
);

/** The page on which a reader goes from candidate to candidate and says what each is. */
class ReviewPage {
  constructor(scan, viewer, growth) {
    this.scan = scan;
    this.viewer = viewer;
    this.growth = growth;
    this.book = new DecisionBook(scan);
    this.other = null; // another reader's { reader, state }
    this.chosen = null; // a candidate's number, or "a0" for the first added node
    this.isAdding = false;
    this.outlines = new Outlines(scan, growth, this.book);
    this.list = new CandidateList(this.outlines, (key) => this.choose(key));
    this.controls = new Controls(scan, viewer, () => this.#shapes());
    this.controls.onFollow = (position) => this.#tell(position);
    this.book.onChange = (told) => this.#changed(told);
    this.#wire();
    this.#recallReader();
    const first = this.#nextOpen(null) ?? scan.candidates[0]?.number ?? null;
    if (first !== null) this.choose(first);
    else viewer.moveTo(viewer.position);
    this.#changed(scan.candidates.length ? "" : "The networks propose nothing in this CT: add what they missed.");
  }

  // ---- what is shown

  #shapes() {
    const shapes = this.scan.annotated.map((mark) => ({
      text: "", colour: COLOURS.annotated, first: mark.first, last: mark.last,
      has: (position) => this.scan.label(position) === mark.number, isChosen: false,
    }));
    for (const key of this.outlines.keys) {
      const shape = this.outlines.shape(key);
      const isChosen = key === this.chosen;
      if (shape) shapes.push({ ...shape, text: this.outlines.name(key), colour: COLOURS[this.outlines.kind(key)], isChosen });
    }
    return shapes;
  }

  #tell(position) {
    const probability = `score ${(this.growth.level(position) / 255).toFixed(2)}`;
    const under = this.scan.label(position);
    if (under >= this.scan.first_annotated) return `${probability} \u00b7 annotated`;
    return under ? `${probability} \u00b7 candidate ${under}` : probability;
  }

  // ---- going from one to the next

  choose(key) {
    this.outlines.preview = null;
    this.chosen = key;
    this.#look(this.outlines.place(key));
    this.#showChosen();
  }

  /** Go to a position, and have it in the middle of zoomed pictures. */
  #look(position) {
    if (!position) return;
    this.viewer.zoomTo(Number(byId("zoom").value), position);
    this.viewer.moveTo(position);
  }

  step(by) {
    const keys = this.outlines.keys;
    if (!keys.length) return;
    this.choose(keys[(keys.indexOf(this.chosen) + by + keys.length) % keys.length]);
  }

  /** The next candidate without a verdict, in the order of the list; null where all have one. */
  #nextOpen(after) {
    const numbers = this.scan.candidates.map((candidate) => candidate.number);
    const at = numbers.indexOf(after) + 1;
    return [...numbers.slice(at), ...numbers.slice(0, at)].find((number) => !this.outlines.judgement(number)) ?? null;
  }

  // ---- decisions

  judge(verdict) {
    const key = this.chosen;
    if (key === null) return;
    if (this.outlines.added(key)) {
      if (verdict === "no node") this.remove();
      return;
    }
    const threshold = this.outlines.threshold(key);
    this.book.change((state) => {
      state.judged[key] = { verdict, threshold, time: now() };
    });
    const next = this.#nextOpen(key);
    if (next === null) this.#say("All candidates are judged. Save the decisions.");
    else this.choose(next);
  }

  /** Take the verdict on the chosen candidate back. */
  unjudge() {
    if (!this.outlines.judgement(this.chosen)) return;
    this.book.change((state) => delete state.judged[this.chosen]);
  }

  /** Add a node at a position: grown where the networks see something there, else a ball. */
  add(position) {
    const start = this.growth.near(position);
    const level = Math.max(LEAST_LEVEL, Math.round(this.growth.level(start) / 2));
    const shape = this.growth.grown(start, level);
    const isGrown = shape !== null && shape.ml <= MOST_ML;
    const [threshold, radius_mm] = isGrown ? [level / 255, null] : [null, ADDED_RADIUS_MM];
    const lps_mm = this.scan.placeOf(isGrown ? start : position).map((mm) => Math.round(1000 * mm) / 1000);
    this.book.change((state) => state.added.push({ lps_mm, threshold, radius_mm, time: now() }));
    this.choose(`a${this.book.state.added.length - 1}`);
    this.#say(
      isGrown
        ? "Added, as far as the networks see it. Move the slider, or make it a ball."
        : "Added as a ball: Shift and the wheel change its size.",
    );
  }

  remove() {
    if (!this.outlines.added(this.chosen)) return;
    const index = Number(this.chosen.slice(1));
    this.chosen = null;
    this.book.change((state) => state.added.splice(index, 1), "The added node was deleted.");
    const next = this.#nextOpen(null) ?? this.outlines.keys[0] ?? null;
    if (next !== null) this.choose(next);
  }

  /** Make an added node a ball, or grow it again. */
  reshape() {
    const added = this.outlines.added(this.chosen);
    if (!added) return;
    const start = this.outlines.start(this.chosen);
    const level = Math.max(LEAST_LEVEL, Math.round(this.growth.level(start) / 2));
    const canGrow = this.growth.level(start) >= LEAST_LEVEL;
    if (added.threshold === null && !canGrow) return this.#say("The networks see nothing here that could grow.");
    this.book.change(() => {
      const isBall = added.threshold === null;
      const [threshold, radius_mm] = isBall ? [level / 255, null] : [null, ADDED_RADIUS_MM];
      Object.assign(this.outlines.added(this.chosen), { threshold, radius_mm });
    });
  }

  /** Set the outline's level or the ball's radius. While the slider moves (`isMoving`) nothing is decided yet. */
  setRange(value, isMoving = false) {
    const range = this.outlines.range(this.chosen);
    if (!range) return;
    const key = this.chosen;
    value = Math.min(range.max, Math.max(range.min, value));
    this.outlines.preview = isMoving ? { key, value } : null;
    if (!isMoving) {
      const threshold = value / 255;
      const entry = range.isBall ? { radius_mm: value } : { threshold };
      if (this.outlines.added(key)) this.book.change(() => Object.assign(this.outlines.added(key), entry));
      else if (this.outlines.judgement(key)) this.book.change((state) => (state.judged[key].threshold = threshold));
      else this.outlines.moved.set(key, threshold); // becomes part of the verdict
    }
    this.#showChosen();
    this.controls.follow();
  }

  nudge(by) {
    const range = this.outlines.range(this.chosen);
    if (!range) return;
    const step = range.isBall ? range.step : Math.max(1, Math.round((range.max - range.min) / 40));
    this.setRange(range.value + by * step);
  }

  /** Back to the outline as proposed. */
  resetOutline() {
    if (this.outlines.added(this.chosen)) return this.reshape();
    this.outlines.moved.delete(this.chosen);
    if (this.outlines.judgement(this.chosen)) this.book.change((state) => (state.judged[this.chosen].threshold = null));
    this.#showChosen();
    this.controls.follow();
  }

  setAdding(isAdding) {
    this.isAdding = isAdding;
    byId("add").setAttribute("aria-pressed", isAdding);
    byId("stage").classList.toggle("adding", isAdding);
    if (isAdding) this.#say("Click on a missed node to add it, or press Enter to add it at the cross.");
  }

  // ---- files

  #readerName() {
    const name = byId("reader").value.trim();
    if (!name) {
      byId("reader").focus();
      this.#say("Write your name first: decisions name their reader.");
    }
    return name;
  }

  save() {
    const reader = this.#readerName();
    if (!reader) return;
    const { reader: before } = this.book.state;
    const question =
      `These decisions are by ${before}. Save them as those of ${reader}? ` +
      'To begin with none of them, cancel, and choose "Start anew".';
    if (before && before !== reader && !window.confirm(question)) return;
    this.book.claim(reader);
    const text = JSON.stringify(this.book.file(reader), null, 1) + "\n";
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = `${this.scan.case}.${reader.replace(/[^\p{L}\p{N}]+/gu, "-")}.decisions.json`;
    link.click();
    URL.revokeObjectURL(link.href);
    this.book.isSaved = true;
    this.#say(`Saved as ${link.download}.`);
  }

  /** Take a file's decisions as one's own, or, `isOther`, beside one's own. */
  async load(file, isOther) {
    try {
      const read = this.book.read(await file.text(), file.name);
      if (isOther) {
        this.other = read;
        this.#changed("");
      } else {
        byId("reader").value = read.reader;
        this.book.change((state) => Object.assign(state, read.state), `The decisions of ${read.reader} are shown.`);
      }
    } catch (error) {
      this.#say(error.message, true);
    }
  }

  #recallReader() {
    try {
      byId("reader").value = window.localStorage.getItem("lnq-review-reader") ?? "";
    } catch {
      // a browser that keeps nothing: the name is written anew
    }
  }

  // ---- the panel

  #say(text, isError = false) {
    byId("said").textContent = text;
    byId("said").classList.toggle("error", isError);
  }

  #changed(told) {
    if (this.outlines.added(this.chosen) === undefined && typeof this.chosen === "string") this.chosen = null;
    this.#say(told);
    byId("kept").hidden = this.book.isKept;
    const { judged, nodes } = this.book.counts;
    const { candidates } = this.scan;
    const { added, rejected, complete_from_mm } = this.book.state;
    byId("progress").max = Math.max(1, candidates.length);
    byId("progress").value = judged;
    byId("counts").textContent =
      `${judged} of ${candidates.length} judged \u00b7 ${nodes} ${nodes === 1 ? "node" : "nodes"} \u00b7 ${added.length} added`;
    byId("undo").disabled = !this.book.past.length;
    this.list.update(this.other);
    this.#showChosen();
    byId("complete").checked = complete_from_mm !== null;
    if (complete_from_mm !== null) byId("complete-mm").value = complete_from_mm;
    byId("reject").textContent = rejected ? "Take this scan back" : "Reject this scan";
    byId("rejected").textContent = rejected ? `Rejected: ${rejected.reason}` : "";
    byId("reason").disabled = rejected !== null;
    this.#compare();
    this.controls.follow();
  }

  /** How far another reader agrees. */
  #compare() {
    const line = byId("agreement");
    line.hidden = !this.other;
    if (!this.other) return;
    const mine = this.book.state.judged;
    const both = Object.keys(mine).filter((number) => number in this.other.state.judged);
    const split = both.filter((number) => mine[number].verdict !== this.other.state.judged[number].verdict);
    line.textContent = `You and ${this.other.reader} agree on ${both.length - split.length} of ${both.length} candidates that both judged` +
      (split.length ? `; you differ on ${split.join(", ")}.` : ".");
  }

  #place({ side, above_carina_mm }) {
    const where = above_carina_mm < 0 ? "below" : "above";
    const height = above_carina_mm === null ? "" : `${Math.abs(above_carina_mm).toFixed(0)} mm ${where} carina`;
    return [side, height].filter(Boolean).join(", ");
  }

  /** The chosen one's facts, buttons and slider, without making the list anew. */
  #showChosen() {
    const key = this.chosen;
    const added = this.outlines.added(key);
    const candidate = this.outlines.candidate(key);
    const ofCandidate = candidate ? `Candidate ${key} of ${this.scan.candidates.length}` : "Nothing is chosen";
    const title = added ? `Added node ${Number(key.slice(1)) + 1}` : ofCandidate;
    byId("title").textContent = title;
    byId("chosen").textContent = title;
    const shape = key === null ? null : this.outlines.shape(key);
    const parts = [];
    if (candidate) parts.push(`${candidate.short_axis_mm.toFixed(1)} \u00d7 ${candidate.long_axis_mm.toFixed(1)} mm as proposed`,
      `score ${candidate.score.toFixed(2)}`, `${Math.round(100 * candidate.agreement)} % of the looks agree`, this.#place(candidate));
    if (shape) parts.push(`outline ${shape.ml.toFixed(2)} ml`);
    byId("facts").textContent = parts.filter(Boolean).join(" \u00b7 ");
    for (const button of document.querySelectorAll("[data-verdict]")) {
      button.disabled = key === null || (added !== undefined && button.dataset.verdict !== "no node");
      button.setAttribute("aria-pressed", button.dataset.verdict === (added ? "node" : this.outlines.judgement(key)?.verdict));
    }
    const range = this.outlines.range(this.chosen);
    byId("outline").disabled = byId("reset").disabled = !range;
    byId("reset").textContent = !added ? "As proposed" : added.threshold === null ? "Grow it" : "Make it a ball";
    if (range) {
      Object.assign(byId("outline"), { min: range.min, max: range.max, step: range.step });
      byId("outline").value = range.value;
      const isAsProposed = !added && this.outlines.threshold(key) === null;
      byId("outline-name").textContent = range.isBall ? `Radius ${range.value} mm`
        : isAsProposed ? "Outline as proposed" : `Outline from score ${(range.value / 255).toFixed(2)}`;
    }
    this.list.mark(key);
  }

  #wire() {
    for (const button of document.querySelectorAll("[data-verdict]")) {
      button.addEventListener("click", () => this.judge(button.dataset.verdict));
    }
    const click = (id, action) => byId(id).addEventListener("click", action);
    click("previous", () => this.step(-1));
    click("next", () => this.step(1));
    click("undo", () => this.book.undo());
    click("reset", () => this.resetOutline());
    click("add", () => this.setAdding(!this.isAdding));
    click("save", () => this.save());
    click("load", () => byId("file").click());
    click("compare", () => byId("other-file").click());
    click("anew", () => this.book.clear());
    click("reject", () => this.#reject());
    byId("zoom").addEventListener("change", () => this.#look(this.viewer.position));
    for (const button of document.querySelectorAll("[data-view]")) {
      button.addEventListener("click", () => this.#look(this.viewer.position)); // a new layout shows the whole
    }
    byId("outline").addEventListener("input", (event) => this.setRange(Number(event.target.value), true));
    byId("outline").addEventListener("change", (event) => this.setRange(Number(event.target.value)));
    for (const [id, isOther] of [["file", false], ["other-file", true]]) {
      byId(id).addEventListener("change", async (event) => {
        const [file] = event.target.files;
        if (file) await this.load(file, isOther);
        event.target.value = "";
      });
    }
    byId("complete").addEventListener("change", () => this.#state());
    byId("complete-mm").addEventListener("change", () => byId("complete").checked && this.#state());
    byId("reader").addEventListener("change", (event) => {
      try {
        window.localStorage.setItem("lnq-review-reader", event.target.value);
      } catch {
        // a browser that keeps nothing: the name is written anew
      }
    });
    this.#wireStage();
    wireKeys({
      y: () => this.judge("node"), n: () => this.judge("no node"), u: () => this.judge("unsure"),
      ArrowRight: () => this.step(1), ArrowLeft: () => this.step(-1), Backspace: () => this.unjudge(),
      z: () => this.book.undo(), a: () => this.setAdding(!this.isAdding), Delete: () => this.remove(),
      "+": () => this.nudge(1), "-": () => this.nudge(-1), 0: () => this.resetOutline(), s: () => this.save(),
      Escape: () => this.setAdding(false),
    }, ["ArrowRight", "ArrowLeft", "+", "-"]);
  }

  #wireStage() {
    const stage = byId("stage");
    let down = null;
    stage.addEventListener("pointerdown", (event) => (down = [event.clientX, event.clientY]), { capture: true });
    stage.addEventListener("click", (event) => {
      const isDrag = !down || Math.hypot(event.clientX - down[0], event.clientY - down[1]) > 4;
      const position = this.isAdding && !isDrag && event.button === 0 ? this.controls.positionAt(event) : null;
      if (position) this.add(position);
    });
    stage.addEventListener("keydown", (event) => {
      if (this.isAdding && event.key === "Enter" && !event.repeat) this.add(this.viewer.position);
    });
    stage.addEventListener("wheel", (event) => {
      if (!event.shiftKey) return;
      event.preventDefault();
      event.stopPropagation();
      this.nudge(-Math.sign(event.deltaY || event.deltaX)); // some browsers turn the wheel's axis with Shift
    }, { capture: true, passive: false });
  }

  #state() {
    const size = Number(byId("complete-mm").value);
    if (byId("complete").checked && !(size > 0)) {
      byId("complete").checked = false;
      return this.#say("Give a size in mm above 0.");
    }
    const open = byId("complete").checked ? this.scan.candidates.length - this.book.counts.judged : 0;
    const told = open ? `${open} candidates are not judged: they stay unknown.` : "";
    this.book.change((state) => (state.complete_from_mm = byId("complete").checked ? size : null), told);
  }

  #reject() {
    if (this.book.state.rejected) return this.book.change((state) => (state.rejected = null));
    const reason = byId("reason").value.trim();
    if (!reason) {
      byId("reason").focus();
      return this.#say("Say why the scan is of no use.");
    }
    this.book.change((state) => (state.rejected = { reason, time: now() }));
  }
}

startPage({}, async (scan, viewer) => {
  scan.marksByNumber = new Map(scan.marks.map((mark) => [mark.number, mark]));
  window.reviewPage = new ReviewPage(scan, viewer, new Growth(scan, await unpack(byId("probability"))));
});
