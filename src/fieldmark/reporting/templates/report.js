"use strict";

// The table of classes: sorted by its headers, filtered by name.
const table = document.getElementById("class-table");
if (table) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
  const valueOf = (row, column) => row.cells[column].dataset.value;
  const compare = (column) => (a, b) =>
    valueOf(a, column) === undefined
      ? collator.compare(a.cells[column].textContent, b.cells[column].textContent)
      : valueOf(a, column) - valueOf(b, column);

  for (const header of table.tHead.rows[0].cells) {
    header.querySelector("button").addEventListener("click", () => {
      const descending = header.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
      header.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const sorted = [...rows].sort(compare(header.cellIndex));
      body.append(...(descending ? sorted.reverse() : sorted));
    });
  }

  const filter = document.getElementById("class-filter");
  const count = document.getElementById("class-count");
  filter.closest("p").hidden = false;
  const show = () => {
    const wanted = filter.value.trim().toLocaleLowerCase();
    for (const row of rows)
      row.hidden = !row.cells[0].textContent.toLocaleLowerCase().includes(wanted);
    const shown = rows.filter((row) => !row.hidden).length;
    count.textContent = `${shown} of ${rows.length}`;
  };
  filter.addEventListener("input", show);
  show();
}

{% include "matrix.js" %}
// On paper nothing can be opened.
addEventListener("beforeprint", () => {
  for (const closed of document.querySelectorAll("details")) closed.open = true;
});
