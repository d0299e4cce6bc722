"use strict";

/** Makes the columns of a table sortable by the buttons in its header. Cells tell their value by data-value. */
function makeSortable(table) {
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => {
    header.querySelector("button")?.addEventListener("click", () => {
      const up = header.getAttribute("aria-sort") === "ascending";
      const down = header.getAttribute("aria-sort") === "descending";
      const descending = up || (!down && header.dataset.first === "descending");
      for (const other of headers) other.removeAttribute("aria-sort");
      header.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sortRows(table.tBodies[0], column, descending);
    });
  });
}

function sortRows(body, column, descending) {
  const rows = [...body.rows].map((row) => ({ row, value: cellValue(row.cells[column]) }));
  rows.sort((a, b) => compareValues(a.value, b.value, descending));
  body.append(...rows.map(({ row }) => row));
}

/** A number where the cell holds one, a text, or null where it is blank. */
function cellValue(cell) {
  const text = cell.dataset.value ?? cell.textContent.trim();
  if (text === "") return null;
  return Number.isNaN(Number(text)) ? text : Number(text);
}

/** Blank cells are last both ways; numbers come before texts. */
function compareValues(a, b, descending) {
  if (a === null || b === null) return (a === null) - (b === null);
  let order;
  if (typeof a === "number" && typeof b === "number") order = a - b;
  else if (typeof a === typeof b) order = a.localeCompare(b, "en", { numeric: true });
  else order = typeof a === "number" ? -1 : 1;
  return descending ? -order : order;
}
