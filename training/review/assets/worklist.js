"use strict";

/** What this browser keeps of each case's review. Some browsers keep each page's data for that page alone. */
function showProgress() {
  for (const cell of document.querySelectorAll("[data-review]")) {
    let state = null;
    try {
      state = JSON.parse(window.localStorage.getItem(`lnq-review-${cell.dataset.review}`) ?? "null");
    } catch {
      // nothing is kept, or it is damaged: the case's own page says so
    }
    const judged = Object.keys(state?.judged ?? {}).length;
    const parts = [];
    if (state?.rejected) parts.push("rejected");
    if (judged || state?.added?.length) parts.push(`${judged} of ${cell.dataset.candidates} judged`);
    cell.textContent = parts.join(", ");
    cell.dataset.value = judged;
  }
}

for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);
showProgress();
window.addEventListener("storage", showProgress);
window.addEventListener("pageshow", showProgress);
