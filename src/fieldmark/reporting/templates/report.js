"use strict";

{% include "tables.js" %}

{% include "matrix.js" %}

// On paper nothing can be opened.
addEventListener("beforeprint", () => {
  for (const closed of document.querySelectorAll("details")) closed.open = true;
});
