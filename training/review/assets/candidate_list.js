"use strict";

/** The table of candidates and added nodes, of which only the rows that changed are written anew. */
class CandidateList {
  /** @param onChoose is called with the key of a row that is clicked */
  constructor(outlines, onChoose) {
    this.outlines = outlines;
    this.onChoose = onChoose;
    this.body = byId("list");
  }

  /** Bring the rows up to date. `other`: another reader's { reader, state }, or null. */
  update(other) {
    const { body, outlines } = this;
    const { keys } = outlines;
    if (keys.length !== body.rows.length) body.replaceChildren(...keys.map((key) => this.#makeRow(key)));
    keys.forEach((key, index) => {
      const row = body.rows[index];
      const kind = outlines.kind(key);
      const verdict = outlines.added(key) ? "added" : (outlines.judgement(key)?.verdict ?? "");
      const others = other?.state.judged[key]?.verdict ?? "";
      if (row.dataset.shown === `${kind} ${others}`) return; // what is written anew is laid out anew
      row.dataset.shown = `${kind} ${others}`;
      row.cells[0].firstChild.className = `jump ${kind}`;
      row.cells[1].textContent = verdict;
      row.cells[2].textContent = others;
      row.classList.toggle("differs", others !== "" && verdict !== "" && others !== verdict);
    });
    byId("other-name").textContent = other?.reader ?? "";
    byId("table").classList.toggle("with-other", other !== null);
  }

  #makeRow(key) {
    const row = document.createElement("tr");
    row.dataset.key = key;
    const { outlines } = this;
    const candidate = outlines.candidate(key);
    const number = (value) => value?.toFixed(2) ?? "";
    const facts = [candidate?.short_axis_mm.toFixed(1) ?? "", number(candidate?.score), number(candidate?.worth)];
    const texts = ["", "", "", ...facts, candidate ? this.#shortPlace(candidate) : ""];
    const kinds = ["", "", "other", "number", "number", "number", ""];
    texts.forEach((text, index) => {
      const cell = row.insertCell();
      cell.className = kinds[index];
      cell.textContent = text;
    });
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = outlines.name(key);
    button.setAttribute("aria-label", `Show ${candidate ? "candidate" : "added node"} ${outlines.name(key)}`);
    row.cells[0].append(button);
    row.addEventListener("click", () => this.onChoose(key));
    return row;
  }

  /** Show which row is chosen. */
  mark(key) {
    const before = this.body.querySelector("tr.chosen");
    const row = this.body.rows[this.outlines.keys.indexOf(key)];
    if (before === row) return;
    before?.classList.remove("chosen");
    before?.cells[0].firstChild.setAttribute("aria-pressed", false);
    row?.classList.add("chosen");
    row?.cells[0].firstChild.setAttribute("aria-pressed", true);
    row?.scrollIntoView({ block: "nearest" });
  }

  #shortPlace({ side, above_carina_mm: height }) {
    const signed = height === null ? "" : `${height < 0 ? "\u2212" : "+"}${Math.abs(height).toFixed(0)}`;
    return [side, signed].filter(Boolean).join(", ");
  }
}
