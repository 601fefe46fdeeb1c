"use strict";
const form = document.querySelector(".filters");
if (form) {
  const lines = document.querySelectorAll(".line");
  const items = [...lines.length ? lines : document.querySelectorAll("table[data-sort] > tbody > tr")];
  const known = items.map((item) => {
    const row = item.closest("tr"), cell = item.closest("td"), place = item.closest("[data-h]");
    const heads = cell && cell.closest("table").tHead.rows[0].cells;
    const around = item === row ? "" : `${row.cells[0].textContent} ${heads[cell.cellIndex].textContent}`;
    const hardware = place ? place.dataset.h : "";
    const members = [item, ...item.querySelectorAll("[title]")].map((titled) => titled.title).join(" ");
    const text = `${item.textContent} ${members} ${around} ${hardware}`.toLowerCase();
    return {item, hardware, word: item.dataset.w, text};
  });
  const everything = document.querySelector("#everything");
  const apply = () => {
    const chosen = Object.fromEntries([...new FormData(form)].filter(([, value]) => value));
    const parts = (chosen.q || "").toLowerCase().split(/\s+/);
    let shown = 0;
    for (const {item, hardware, word, text} of known) {
      const fits = parts.every((part) => text.includes(part))
        && (!chosen.h || hardware === chosen.h) && (!chosen.w || word === chosen.w);
      item.hidden = !fits;
      shown += fits && (!everything || everything.checked || !item.classList.contains("insignificant"));
    }
    for (const row of document.querySelectorAll(".matrix > tbody > tr")) row.hidden = !row.querySelector(".line:not([hidden])");
    for (const part of document.querySelectorAll(".machine")) part.hidden = !part.querySelector("tbody > tr:not([hidden])");
    form.querySelector("output").textContent = `${shown} of ${known.length} ${form.dataset.what}`;
    const state = new URLSearchParams(chosen).toString();
    history.replaceState(null, "", state ? `#${state}` : location.pathname + location.search);
  };
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) if (form.elements[name]) form.elements[name].value = value;
  form.addEventListener("input", apply);
  if (everything) everything.addEventListener("change", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(INPUT|SELECT)$/.test(document.activeElement.tagName)) {
      event.preventDefault();
      form.elements.q.focus();
    }
  });
  apply();
}
const order = new Intl.Collator("en", {numeric: true});
for (const table of document.querySelectorAll("table[data-sort]")) {
  for (const head of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => row.cells[head.cellIndex].dataset.v ?? row.cells[head.cellIndex].textContent.trim();
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const [x, y] = [value(a), value(b)], difference = Number(x) - Number(y);
        return (down ? -1 : 1) * (Number.isNaN(difference) ? order.compare(x, y) : difference);
      });
      table.tBodies[0].append(...rows);
    });
  }
}
document.documentElement.dataset.ready = performance.now().toFixed(0);
