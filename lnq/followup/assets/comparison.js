"use strict";

for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);
