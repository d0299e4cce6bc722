"use strict";

const VERDICTS = ["node", "no node", "unsure"];
const RADII_MM = [1, 30];

/** A reader's decisions on one CT, kept by the browser with every change, and the way back. */
class DecisionBook {
  static FORMAT = 1;
  static MOST_STEPS_BACK = 500;

  /** @param about the page's facts: case, subject, candidates */
  constructor(about) {
    this.about = about;
    this.key = `lnq-review-${about.subject.candidates}`;
    this.state = DecisionBook.empty();
    this.past = [];
    this.isKept = true; // whether the browser keeps decisions
    this.isSaved = true; // whether a file holds them
    this.onChange = () => {};
    this.#recall();
    window.addEventListener("storage", (event) => {
      if (event.key !== this.key) return;
      this.#recall();
      this.isSaved = false;
      this.onChange("Another tab changed these decisions. They are shown here as they are now.");
    });
    window.addEventListener("beforeunload", (event) => {
      if (!this.isKept && !this.isSaved) event.preventDefault();
    });
  }

  static empty() {
    return { reader: "", judged: {}, added: [], rejected: null, complete_from_mm: null };
  }

  /** Change the decisions in a way that can be undone. */
  change(edit, told = "") {
    this.past.push(JSON.stringify(this.state));
    if (this.past.length > DecisionBook.MOST_STEPS_BACK) this.past.shift();
    edit(this.state);
    this.#keep(told);
  }

  /** Take the decisions as a reader's own. */
  claim(reader) {
    this.state.reader = reader;
    this.#keep("");
  }

  /** Begin anew; that can be undone. */
  clear() {
    this.change((state) => Object.assign(state, DecisionBook.empty()), "All decisions are gone. Undo brings them back.");
  }

  undo() {
    if (!this.past.length) return;
    this.state = JSON.parse(this.past.pop());
    this.#keep("The last decision was undone.");
  }

  #keep(told) {
    this.isSaved = false;
    try {
      window.localStorage.setItem(this.key, JSON.stringify(this.state));
      this.isKept = true;
    } catch {
      this.isKept = false;
    }
    this.onChange(told);
  }

  #recall() {
    try {
      const kept = JSON.parse(window.localStorage.getItem(this.key) ?? "null");
      this.state = kept && this.#isState(kept) ? kept : DecisionBook.empty();
      this.past = [];
    } catch {
      this.isKept = false;
    }
  }

  #isState(kept) {
    const isObject = (value) => typeof value === "object" && value !== null;
    return isObject(kept) && isObject(kept.judged) && Array.isArray(kept.added) && "rejected" in kept;
  }

  /** How many candidates are judged, and how many of these are nodes. */
  get counts() {
    const verdicts = Object.values(this.state.judged).map((one) => one.verdict);
    return { judged: verdicts.length, nodes: verdicts.filter((verdict) => verdict === "node").length };
  }

  /** The content of a decisions file, as `training.review.decisions` reads it. */
  file(reader) {
    const { case: name, subject } = this.about;
    const judged = Object.entries(this.state.judged).map(([number, one]) => ({ candidate: Number(number), ...one }));
    const { added, rejected, complete_from_mm } = this.state;
    const head = { format: DecisionBook.FORMAT, case: name, subject, reader, saved: new Date().toISOString() };
    return { ...head, judged, added, rejected, complete_from_mm };
  }

  /** The reader and the state that a decisions file holds. @throws Error with a sentence where it does not fit */
  read(text, name) {
    let content;
    try {
      content = JSON.parse(text);
    } catch {
      content = null;
    }
    const isFile = content && content.subject && Array.isArray(content.judged) && Array.isArray(content.added);
    if (!isFile || typeof content.reader !== "string") {
      throw new Error(`${name} is no decisions file, or it is damaged.`);
    }
    if (content.format !== DecisionBook.FORMAT) {
      throw new Error(`${name} has format ${content.format}, this page reads format ${DecisionBook.FORMAT}.`);
    }
    const { subject } = this.about;
    if (content.subject.ct !== subject.ct) throw new Error(`${name} judges another CT.`);
    if (JSON.stringify(content.subject.weights) !== JSON.stringify(subject.weights)) {
      throw new Error(`${name} judges what other weights proposed.`);
    }
    if (content.subject.candidates !== subject.candidates) throw new Error(`${name} judges another list of candidates.`);
    const numbers = new Set(this.about.candidates.map((candidate) => candidate.number));
    const judged = {};
    for (const { candidate, verdict, threshold, time } of content.judged) {
      const isPlain = threshold === null || threshold === undefined || DecisionBook.#isThreshold(threshold);
      if (!numbers.has(candidate) || !VERDICTS.includes(verdict) || !isPlain) throw new Error(`${name} is damaged.`);
      judged[candidate] = { verdict, threshold: threshold ?? null, time };
    }
    const { reader, added, rejected = null, complete_from_mm = null } = content;
    const isWhole = added.every(DecisionBook.#isAdded) && (rejected === null || typeof rejected.reason === "string");
    const isSize = complete_from_mm === null || complete_from_mm > 0;
    if (!isWhole || !isSize) throw new Error(`${name} is damaged.`);
    return { reader, state: { reader, judged, added, rejected, complete_from_mm } };
  }

  static #isAdded({ lps_mm, threshold, radius_mm }) {
    const isPoint = Array.isArray(lps_mm) && lps_mm.length === 3 && lps_mm.every(Number.isFinite);
    const isGrown = DecisionBook.#isThreshold(threshold) && radius_mm === null;
    const isBall = threshold === null && radius_mm >= RADII_MM[0] && radius_mm <= RADII_MM[1];
    return isPoint && (isGrown || isBall);
  }

  static #isThreshold(value) {
    return typeof value === "number" && value > 0 && value <= 1;
  }
}
