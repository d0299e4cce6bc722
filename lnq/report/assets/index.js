"use strict";

const rows = [...document.querySelectorAll("#cases tbody tr")];
const texts = new Map(rows.map((row) => [row, wordsOf(row)]));
const search = document.getElementById("search");
const kind = document.getElementById("kind");

/** What is searched: the case's name, its status, and what is said of it. */
function wordsOf({ cells }) {
  return [cells[0], cells[1], cells[cells.length - 1]].map((cell) => cell.textContent.toLowerCase()).join(" ");
}

/** Shows the rows that hold every word of the box and are of the chosen kind. */
function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of rows) {
    const isKind = kind.value === "all" || row.dataset.kinds.split(" ").includes(kind.value);
    row.hidden = !(isKind && words.every((word) => texts.get(row).includes(word)));
    shown += !row.hidden;
  }
  document.getElementById("count").textContent = `${shown} of ${rows.length} cases shown`;
}

search.addEventListener("input", filter);
kind.addEventListener("change", filter);
document.getElementById("pictures")?.addEventListener("change", (event) => {
  document.getElementById("cases").classList.toggle("without-pictures", !event.target.checked);
});
for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);
filter();
