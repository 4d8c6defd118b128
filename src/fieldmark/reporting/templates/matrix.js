// The confusion matrix: what a square means in words, by pointer and by keyboard, and its zoom.
{
  const view = document.getElementById("matrix-view");
  if (view) {
    const { names, support, rows } = JSON.parse(document.getElementById("matrix-data").textContent);
    const counts = rows.map((flat) => {
      const row = new Map();
      for (let place = 0; place < flat.length; place += 2) row.set(flat[place], flat[place + 1]);
      return row;
    });
    const plate = view.querySelector(".matrix");
    const cells = view.querySelector(".cells");
    const cursor = view.querySelector(".cursor");
    const rowNames = view.querySelectorAll(".rows li");
    const columnNames = view.querySelectorAll(".columns li");
    const readout = document.getElementById("cell-readout");
    const unit = Number(cursor.getAttribute("width"));
    const count = names.length;
    const width = Number(plate.style.getPropertyValue("--width"));
    const READABLE = 8; // px of a square beside which a name can be read
    const LARGEST = 56;
    let side = 0;
    let fitted = true;
    let at = null;

    const say = (row, column) => {
      const number = counts[row].get(column) ?? 0;
      const share = support[row] ? ` (${((100 * number) / support[row]).toFixed(1)} %)` : "";
      const what = row === column ? "named rightly" : `taken for ${names[column]}`;
      return `${names[row]}, ${what}: ${number} of ${support[row]}${share}`;
    };
    const ask = "Point at a square, or choose the matrix and press the arrow keys.";
    const point = (row, column) => {
      if (at) {
        rowNames[at[0]].classList.remove("here");
        columnNames[at[1]].classList.remove("here");
      }
      at = row === null ? null : [row, column];
      cursor.toggleAttribute("hidden", !at);
      readout.textContent = at ? say(row, column) : ask;
      if (!at) return;
      rowNames[row].classList.add("here");
      columnNames[column].classList.add("here");
      cursor.setAttribute("x", column * unit);
      cursor.setAttribute("y", row * unit);
    };

    const fittingSide = () => {
      const room = view.clientWidth - 2;
      const most = count <= 6 ? 64 : count <= 12 ? 46 : count <= 20 ? 36 : 24;
      let found = (room - 13 * width) / count;
      if (0.82 * found < 13) found = room / (count + 0.82 * width);
      return Math.min(most, found >= READABLE ? found : room / count);
    };
    const resize = (wanted, keep) => {
      if (view.clientWidth < 40) return; // not laid out: there is nothing to fit into
      const least = fittingSide();
      const before = side;
      side = Math.max(least, Math.min(LARGEST, wanted));
      fitted = wanted <= least;
      // The square under the pointer, or at the cursor, stays where it is.
      const box = cells.getBoundingClientRect();
      const frame = view.getBoundingClientRect();
      const spot = keep ?? { x: frame.left + frame.width / 2, y: frame.top + frame.height / 2 };
      const place = { x: (spot.x - box.left) / before, y: (spot.y - box.top) / before };
      plate.style.setProperty("--side", `${side}px`);
      plate.classList.toggle("far", side < READABLE);
      view.classList.toggle("zoomed", !fitted);
      if (!before || fitted) return;
      const now = cells.getBoundingClientRect();
      view.scrollLeft += now.left + place.x * side - spot.x;
      view.scrollTop += now.top + place.y * side - spot.y;
    };
    const fit = () => resize(0);
    const reveal = () => {
      const [row, column] = at;
      const names = view.querySelector(".corner");
      const left = names.offsetWidth;
      const top = names.offsetHeight;
      const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
      view.scrollLeft = clamp(
        view.scrollLeft, (column + 1) * side + left - view.clientWidth, column * side);
      view.scrollTop = clamp(
        view.scrollTop, (row + 1) * side + top - view.clientHeight, row * side);
    };
    const spotOfCursor = () => {
      if (!at) return undefined;
      const box = cursor.getBoundingClientRect();
      return { x: box.left + box.width / 2, y: box.top + box.height / 2 };
    };
    const mistakes = counts.flatMap((row, r) =>
      [...row.keys()].filter((column) => column !== r).map((column) => [r, column]));
    const nextMistake = () => {
      const place = at ? at[0] * count + at[1] : -1;
      return mistakes.find(([r, c]) => r * count + c > place) ?? mistakes[0] ?? at ?? [0, 0];
    };

    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    view.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      readout.setAttribute("aria-live", "polite");
      const inside = (value) => Math.max(0, Math.min(count - 1, value));
      if (event.key in moves) {
        const [down, right] = moves[event.key];
        if (at) point(inside(at[0] + down), inside(at[1] + right));
        else point(0, 0);
      } else if (event.key === "n") point(...nextMistake());
      else if (event.key === "Escape") point(null);
      else if (event.key === "+" || event.key === "=") resize(side * 1.5, spotOfCursor());
      else if (event.key === "-") resize(side / 1.5, spotOfCursor());
      else if (event.key === "0") fit();
      else return;
      event.preventDefault();
      if (at) reveal();
    });
    cells.addEventListener("pointermove", (event) => {
      const box = cells.getBoundingClientRect();
      const column = Math.floor((event.clientX - box.left) / side);
      const row = Math.floor((event.clientY - box.top) / side);
      readout.setAttribute("aria-live", "off");
      if (row >= 0 && column >= 0 && row < count && column < count) point(row, column);
    });
    cells.addEventListener("pointerleave", () => point(null));
    cells.addEventListener("dblclick", (event) =>
      resize(fitted ? Math.max(18, 2.5 * side) : 0, { x: event.clientX, y: event.clientY }));
    view.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      resize(side * Math.exp(-event.deltaY / 200), { x: event.clientX, y: event.clientY });
    }, { passive: false });

    const tools = document.getElementById("matrix-tools");
    tools.addEventListener("click", (event) => {
      const wanted = event.target.dataset.zoom;
      if (wanted) resize({ in: side * 1.5, out: side / 1.5, fit: 0 }[wanted], spotOfCursor());
    });
    const sought = document.getElementById("matrix-class");
    sought.addEventListener("change", () => {
      const row = names.indexOf(sought.value);
      if (row < 0) return;
      readout.setAttribute("aria-live", "polite");
      point(row, row);
      resize(Math.max(side, 14), spotOfCursor());
      reveal();
    });

    for (const part of [tools, readout, document.getElementById("matrix-keys")]) part.hidden = false;
    point(null);
    fit();
    new ResizeObserver(() => { if (fitted) fit(); }).observe(view);
  }
}
