// Tables sorted by their headers, and filtered by a text and a kind.
{
  const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
  const compare = (column) => (a, b) => {
    const [one, other] = [a.cells[column], b.cells[column]];
    return one.dataset.value === undefined
      ? collator.compare(one.textContent, other.textContent)
      : one.dataset.value - other.dataset.value;
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const rows = [...table.tBodies[0].rows];
    const headers = table.tHead.rows[0].cells;
    for (const header of headers)
      header.querySelector("button")?.addEventListener("click", () => {
        const descending = header.getAttribute("aria-sort") === "ascending";
        for (const other of headers)
          if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
        header.setAttribute("aria-sort", descending ? "descending" : "ascending");
        const sorted = [...rows].sort(compare(header.cellIndex));
        table.tBodies[0].append(...(descending ? sorted.reverse() : sorted));
      });
  }

  for (const form of document.querySelectorAll("form[data-filters]")) {
    const table = document.getElementById(form.dataset.filters);
    const rows = [...table.tBodies[0].rows];
    const [text, kind] = [form.querySelector("input"), form.querySelector("select")];
    const nothing = table.parentElement.querySelector(".nothing");
    const show = () => {
      const wanted = text.value.trim().toLocaleLowerCase();
      for (const row of rows) {
        const named = row.cells[0].textContent.toLocaleLowerCase().includes(wanted);
        row.hidden = !named || !(!kind.value || row.dataset.kinds.split("|").includes(kind.value));
      }
      const shown = rows.filter((row) => !row.hidden).length;
      form.querySelector("output").textContent = `${shown} of ${rows.length}`;
      nothing.hidden = shown > 0;
    };
    form.addEventListener("input", show);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = false;
    show();
  }
}
