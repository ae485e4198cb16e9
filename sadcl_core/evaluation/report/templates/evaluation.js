"use strict";
// All of this is comfort: without it the page is the same page, unsorted.

const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const words = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

for (const element of all(".tools")) element.hidden = false;

// tables: a button in each heading that can be sorted by
for (const table of all("table.sortable")) {
  for (const heading of all("th[data-sort]", table)) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => sort(table, heading));
  }
}

function sort(table, heading) {
  const numeric = heading.dataset.sort === "number";
  const before = heading.getAttribute("aria-sort");
  const falling = before ? before === "ascending" : numeric;
  for (const other of all("th[aria-sort]", table)) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
  const column = heading.cellIndex;
  const rows = all("tr", table.tBodies[0]).map((row) => {
    const cell = row.cells[column];
    return { row, key: numeric ? (cell.dataset.value === "" ? null : Number(cell.dataset.value)) : cell.textContent.trim() };
  });
  rows.sort((a, b) => {
    if (a.key === null || b.key === null) return (a.key === null) - (b.key === null); // without a value: last, either way
    const order = numeric ? a.key - b.key : words.compare(a.key, b.key);
    return falling ? -order : order;
  });
  table.tBodies[0].append(...rows.map(({ row }) => row));
}

// filter: rows, sections and suspects of the classes whose name holds what was typed
const filter = document.getElementById("filter");
if (filter) {
  const names = new Map(
    all("#class-table tbody tr").map((row) => [row.dataset.class, row.cells[0].textContent.trim().toLocaleLowerCase()]),
  );
  const members = all("[data-class]");
  filter.addEventListener("input", () => {
    const wanted = filter.value.trim().toLocaleLowerCase();
    const shown = new Set([...names].filter(([, name]) => name.includes(wanted)).map(([number]) => number));
    for (const member of members) member.hidden = !shown.has(member.dataset.class);
    document.getElementById("shown").value = wanted ? `${shown.size} of ${names.size}` : "";
  });
}

// a link to a class opens its section
const sections = all("details.class");
function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) {
    target.open = true;
    target.scrollIntoView();
  }
}
addEventListener("hashchange", openTarget);
for (const link of all('a[href^="#class-"]')) link.addEventListener("click", () => setTimeout(openTarget));
openTarget();

const openAll = (open) => sections.forEach((section) => (section.open = open));
document.getElementById("open-all")?.addEventListener("click", () => openAll(true));
document.getElementById("close-all")?.addEventListener("click", () => openAll(false));

// on paper nothing can be opened
let opened = [];
addEventListener("beforeprint", () => {
  opened = all("details:not([open])");
  for (const section of opened) section.open = true;
});
addEventListener("afterprint", () => {
  for (const section of opened) section.open = false;
});
